"""The section of RESULTS.md on images and embeddings."""

from statistics import mean, median

from _report import by_task, load_averages, markdown, provenance, spread

# As measured with pythae 0.1.2 in an earlier run: 10 latents, batch 128, learning rate 1e-3,
# 4 epochs where no more are named: epochs, kNN of embed, kNN of the encoder's mean, MSE.
EARLIER = {
    "ae": (20, 0.945, 0.945, 0.0131),
    "vae": (20, 0.097, 0.841, 0.0740),
    "beta": (20, 0.097, 0.841, 0.0740),
    "disentangled_beta": (20, 0.097, 0.760, 0.0809),
    "beta_tc": (20, 0.102, 0.654, 0.0743),
    "factor": (20, None, 0.779, 0.0742),
    "iwae": (20, 0.111, 0.823, 0.0745),
    "miwae": (20, 0.108, 0.741, 0.0743),
    "piwae": (4, 0.104, 0.762, 0.0749),
    "ciwae": (4, 0.099, 0.684, 0.0750),
    "linear_flow": (4, 0.115, 0.766, 0.0756),
    "iaf": (4, 0.114, 0.749, 0.0755),
    "info_mmd": (4, 0.097, 0.740, 0.0750),
    "wae_mmd": (4, 0.848, 0.848, 0.0419),
    "vamp": (4, 0.092, 0.760, 0.0755),
    "spherical": (4, 0.106, 0.790, 0.0750),
    "poincare": (4, 0.108, 0.538, 0.0753),
    "aae": (4, 0.100, 0.813, 0.0761),
    "vae_gan": (4, 0.101, 0.215, 0.1558),
    "vq": (4, 0.331, 0.784, 0.1148),
    "rae_l2": (4, 0.840, 0.840, 0.0428),
    "rae_gp": (4, 0.839, 0.839, 0.0427),
    "hvae": (4, 0.110, 0.736, 0.0750),
}
EMPTY = "–"


INTRODUCTION = "CPU time of one thread."


def section(content):
    """Return the section as markdown."""
    found = by_task(content)
    parts = {"mnist": _mnist, "overhead": _overhead, "sampling": _sampling, "digits": _digits}
    return "\n\n".join(
        [
            "## Images and embeddings",
            provenance(content, INTRODUCTION, load_averages(content)),
            *(part(found[task]) for task, part in parts.items() if task in found),
        ]
    )


def _mnist(records):
    any_record = next(iter(records.values()))
    rows = [
        [
            "model", "epochs", "batch", "weights", "fit CPU min", "wall min", "ELBO, -nats",
            "bound of 10, -nats", "NLL, nats", "scoring CPU min",
        ]
    ]  # fmt: skip
    notes = []
    for (name,), record in sorted(records.items(), reverse=True):
        settings = record["settings"]
        rows.append(
            [
                name,
                str(settings["max_epochs"]),
                str(settings["batch_size"]),
                f"{record['n_weights']:,}",
                f"{record['fit_cpu_s'] / 60:.1f}",
                f"{record['fit_wall_s'] / 60:.1f}",
                f"{-record['elbo']:.2f}",
                f"{-record['iw10']:.2f}",
                f"{record['nll']:.2f} ± {record['nll_standard_error']:.2f}",
                f"{record['score_cpu_s'] / 60:.1f}",
            ]
        )
        notes.append(
            f"{name}: `{settings}`; the first {record['n_checked']} images have "
            f"{record['nll_of_checked']:.2f} here, and {record['score_samples_of_checked']:.2f} by "
            f"`score_samples(n_draws={record['n_draws']})`, which computes in double precision."
        )
    head = (
        f"### Static binarised MNIST: first {any_record['n_images']:,} test images, "
        f"{any_record['n_draws']} importance samples"
    )
    return "\n\n".join([head, markdown(rows), "\n".join(f"- {note}" for note in notes)])


def _overhead(records):
    rows = [
        [
            "data", "batch", "bare, Adam", "bare, fused Adam", "skvae", "skvae, whole fit",
            "pythae", "pyautoencoder", "skvae / bare", "skvae / fused", "pythae / bare",
            "pyautoencoder / bare", "load",
        ]
    ]  # fmt: skip
    for (name, batch_size), record in sorted(
        records.items(), key=lambda pair: (pair[0][0], pair[1]["batch_size"])
    ):
        seconds = record["cpu_s_per_epoch"]

        def cell(label, seconds=seconds):
            return _least(seconds[label]) if label in seconds else EMPTY

        def ratio(label, base, seconds=seconds):
            if label not in seconds:
                return EMPTY
            pairs = zip(seconds[label], seconds[base], strict=True)
            least = min(seconds[label]) / min(seconds[base])
            return f"{least:.2f} ({median(a / b for a, b in pairs):.2f})"

        rows.append(
            [
                name,
                batch_size,
                *map(cell, ("bare", "bare_fused", "skvae", "skvae_fit", "pythae", "pyautoencoder")),
                ratio("skvae", "bare"),
                ratio("skvae", "bare_fused"),
                ratio("pythae", "bare"),
                ratio("pyautoencoder", "bare"),
                f"{mean(record['load_average']):.1f}",
            ]
        )
    n_rounds = {len(record["cpu_s_per_epoch"]["skvae"]) for record in records.values()}
    text = (
        "CPU seconds of an epoch, the least of "
        f"{_join(n_rounds)} rounds taken in turn (in brackets their median; of ratios, the median "
        "of the rounds' ratios). *load* is the load average of the two cores meanwhile."
    )
    return "\n\n".join(["### Seconds of an epoch", text, markdown(rows)])


def _sampling(records):
    n_rounds = {len(record["cpu_s"]) for record in records.values()}
    parts = [
        "### 10,000 rows drawn and decoded",
        f"CPU seconds, the least of {_join(n_rounds)} draws in turn (in brackets their median). "
        "*fit* is that of the sampler alone: skvae's end when there is no gain on latents held "
        "out, pythae's flows and second VAE were given 10 epochs on digits and one on mnist10k, "
        "where its default is 100.",
    ]
    for name in dict.fromkeys(name for name, _ in records):
        rows = [
            ["sampler", "model", "skvae s", "pythae s", "skvae / pythae", "fit s", "pythae fit s"]
        ]
        for (_, sampler), record in records.items():
            if _ != name:
                continue
            peer = record.get("pythae_cpu_s")
            mark = " *" if "pythae_drew" in record else ""
            fit = record.get("pythae_sampler_fit_cpu_s")
            rows.append(
                [
                    sampler,
                    record["model"],
                    _least(record["cpu_s"]),
                    _least(peer) + mark if peer else EMPTY,
                    f"{min(record['cpu_s']) / min(peer):.2f}" if peer else EMPTY,
                    f"{record['sampler_fit_cpu_s']:.1f}",
                    EMPTY if fit is None else f"{fit:.1f}",
                ]
            )
        parts += [f"{name}:", markdown(rows)]
    if any("pythae_drew" in record for record in records.values()):
        parts.append(
            "\\* in proportion to a draw of 10 rows: pythae's chains make 100 moves of 15 leapfrog "
            "steps among all training rows, skvae's 20 of 3 among 200 centroids."
        )
    return "\n\n".join(parts)


def _digits(records):
    by_model = {}
    for (model, _), record in records.items():
        by_model.setdefault(model, []).append(record)
    first = ("vae", "pca", "pythae-vae", "pyautoencoder-vae")
    rows = [
        [
            "model", "seeds", "kNN accuracy", "MSE", "fit CPU s", "pythae: epochs", "kNN of embed",
            "kNN of means", "MSE",
        ]
    ]  # fmt: skip
    for model in [*(m for m in first if m in by_model), *sorted(set(by_model) - set(first))]:
        found = [record for record in by_model[model] if "error" not in record]
        if not found:
            rows.append([model, "0", by_model[model][0]["error"][:60], *[EMPTY] * 6])
            continue
        columns = [
            spread([record[name] for record in found], digits)
            for name, digits in (("knn", 3), ("mse", 4), ("fit_cpu_s", 1))
        ]
        star = " (labels)" if any(record.get("labels") for record in found) else ""
        rows.append([model + star, str(len(found)), *columns, *_earlier(model)])
    notes = []
    if "pca" in by_model:
        (record,) = by_model["pca"]
        notes.append(
            f"The pixels themselves have an accuracy of {record['knn_of_pixels']:.3f}; the mean "
            f"image has an MSE of {record['mse_of_mean']:.4f}."
        )
    for peer in ("pythae", "pyautoencoder"):
        for record in by_model.get(f"{peer}-vae", []):
            notes.append(
                f"{peer}-vae is {peer}'s VAE, measured here at skvae's batch size and learning "
                f"rate: its posteriors' means have an accuracy of {record['knn_of_means']:.3f}."
            )
    notes.append(
        "The columns on the right are from the research note, not of this run: pythae 0.1.2, batch "
        "128, learning rate 1e-3, fewer epochs for some."
    )
    head = "### Digits: 10 components, 20 epochs"
    return "\n\n".join([head, markdown(rows), "\n".join(f"- {note}" for note in notes)])


def _earlier(model):
    if model not in EARLIER:
        return [EMPTY] * 4
    epochs, embedded, means, error = EARLIER[model]
    shown = EMPTY if embedded is None else f"{embedded:.3f}"
    return [str(epochs), shown, f"{means:.3f}", f"{error:.4f}"]


def _least(seconds):
    digits = 3 if min(seconds) < 10 else 0
    return f"{min(seconds):.{digits}f} ({median(seconds):.{digits}f})"


def _join(numbers):
    return " or ".join(map(str, sorted(numbers)))
