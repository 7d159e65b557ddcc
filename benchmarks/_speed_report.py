"""The section of RESULTS.md on a training step."""

from _report import load_averages, markdown, provenance

INTRODUCTION = (
    "What a training step costs beyond the matrix products of its forward and backward passes, and "
    "beyond the plainest torch loop around the same model. CPU time of one thread, medians of "
    "rounds taken in turn; ratios are medians over the rounds."
)
HEADS = {
    "adult": "A step of the default model on Adult, batch {batch_size}",
    "digits": "A pass of a VAE (64-512-10) over the digits, batch {batch_size}",
}


def section(content):
    """Return the section as markdown."""
    parts = ["## A training step", provenance(content, INTRODUCTION, load_averages(content))]
    for key, record in sorted(content["records"].items()):
        parts.append("### " + HEADS[key.split("|")[1]].format(**record))
        if "gflop_of_products" in record:
            gflop = record["gflop_of_products"]
            speed = 1e3 * gflop / record["cpu_ms"]["products"]
            parts.append(f"{gflop:.3f} GFLOP a step in products, {speed:.0f} GFLOP/s.")
        first = next(iter(record["cpu_ms"]))
        rows = [["step", "CPU ms (median)", f"over {first}", "over bare"]]
        for name, milliseconds in record["cpu_ms"].items():
            ratios = (record[base][name] for base in ("over_first", "over_bare"))
            rows.append([name, f"{milliseconds:.2f}", *(f"{ratio:.2f}" for ratio in ratios)])
        parts.append(markdown(rows))
    return "\n\n".join(parts)
