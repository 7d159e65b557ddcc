"""RESULTS.md from the JSON files: its sections in order, and what they share."""

import json
from statistics import mean, stdev

SECTIONS = ("tabular", "speed", "images", "spatial", "conditional")
HEAD = (
    "# Results\n\nWritten by `python benchmarks/run.py report` from the files in "
    "[results](results); measures and protocol are in the [README](README.md)."
)


def write(folder):
    """Write the RESULTS.md of a folder that holds results, and return its text."""
    notes = folder / "results" / "notes.md"
    parts = [HEAD, *([notes.read_text().strip()] if notes.exists() else []), *sections(folder)]
    text = "\n\n".join(parts) + "\n"
    (folder / "RESULTS.md").write_text(text)
    return text


def sections(folder):
    """Return the sections that there are results for, as markdown."""
    import _images_report
    import _spatial_report
    import _speed_report
    import _tabular_report
    import conditional

    writers = {
        "tabular": _tabular_report,
        "speed": _speed_report,
        "images": _images_report,
        "spatial": _spatial_report,
        "conditional": conditional,
    }
    paths = {name: folder / "results" / f"{name}.json" for name in SECTIONS}
    return [
        writers[name].section(json.loads(path.read_text()))
        for name, path in paths.items()
        if path.exists()
    ]


def provenance(content, introduction, sources=()):
    """Return what is to be known of all figures of a section, and the runs they come from."""
    lines = [introduction, ""]
    for position, run in enumerate(content["runs"]):
        records = [r for r in content["records"].values() if r["run"] == position]
        versions = dict(run["versions"])
        for record in records:
            versions |= record.get("versions", {}) | record.get("fit", {}).get("versions", {})
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(
            f"- {run['date']}, {run['cpu']}, {run['cores']} cores, {run['system']}, "
            f"commit {run['commit'] or 'not noted'}; {named}:\n  `{run['command']}`"
        )
    return "\n".join([*lines, *(f"- {source}" for source in sources)])


def load_averages(content):
    """Return a sentence on what else ran on the machine, in a list of its own."""
    loads = [
        record["load_average"] for record in content["records"].values() if "load_average" in record
    ]
    if not loads:
        return []
    loads = [mean(load) if isinstance(load, list) else load for load in loads]
    return [
        f"Load averages of {min(loads):.0f} to {max(loads):.0f} (mean {mean(loads):.1f}) while "
        "times were taken: other jobs ran. Wall times say little, CPU times are somewhat too long; "
        "ratios are of measurements that took turns."
    ]


def by_task(content):
    """Return the records as ``{task: {(rest, of, key): record}}``."""
    found = {}
    for key, record in content["records"].items():
        task, *rest = key.split("|")
        found.setdefault(task, {})[tuple(rest)] = record
    return found


def spread(values, digits):
    """Return the mean and, of several values, the standard deviation."""
    if not values:
        return "–"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def markdown(rows):
    """Return rows of words as a table, the first being its head."""
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = ["-" * width if j == 0 else "-" * (width - 1) + ":" for j, width in enumerate(widths)]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join(lines)
