"""What a training step costs beyond the least it could."""

import os
import statistics

TASKS = ("adult", "digits")
BATCH_SIZES = {"adult": (256,), "digits": (64, 500)}
# Steps between two readings of the clock; of digits a pass over all rows is one.
N_STEPS = {"adult": 20, "digits": 1}
QUICK = "digits --rounds 3"


def add_arguments(parser):
    """Say what can be chosen."""
    parser.add_argument(
        "tasks", nargs="*", choices=(*TASKS, []), help=f"of {', '.join(TASKS)}; default: both"
    )
    parser.add_argument("--rounds", type=int, default=20)


def measure(arguments, store, interpreters):
    """Make the records that are missing."""
    import torch

    torch.set_num_threads(arguments.threads)
    for task in arguments.tasks or TASKS:
        for batch_size in BATCH_SIZES[task]:
            key = f"step|{task}|{batch_size}"
            if store.misses(key):
                store.put(key, timed(task, batch_size, arguments.rounds))


def timed(task, batch_size, n_rounds):
    """Time the steps in turn, and return medians and medians of the rounds' ratios."""
    from _steps import cpu_milliseconds, digits_steps, table_steps

    from skvae.datasets import load_adult
    from skvae.training.subnormals import flushed_subnormals

    record = {"batch_size": batch_size, "n_rounds": n_rounds, "load_average": os.getloadavg()[0]}
    if task == "adult":
        steps, record["gflop_of_products"] = table_steps(load_adult(), batch_size)
    else:
        steps = digits_steps(batch_size)
    times = {name: [] for name in steps}
    with flushed_subnormals():
        for number in range(n_rounds + 1):
            for name, step in steps.items():
                milliseconds = cpu_milliseconds(step, N_STEPS[task])
                if number:  # the first round warms up
                    times[name].append(milliseconds)
    record["cpu_ms"] = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(steps))
    for label, base in (("over_first", first), ("over_bare", "bare")):
        record[label] = {
            name: statistics.median(a / b for a, b in zip(values, times[base], strict=True))
            for name, values in times.items()
        }
    return record
