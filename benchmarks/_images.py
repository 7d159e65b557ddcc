"""`VAEEmbedder` on images: likelihood, overhead, sampling, quality of embeddings.

See README.md for the measures.
"""

import importlib

from _images_peer import Peer

TASKS = ("mnist-vae", "mnist-iwae", "overhead", "sampling", "digits")
PEERS = ("pythae", "pyautoencoder")
QUICK = "overhead digits --sets digits --rounds 1 --models vae --seeds 0"


def add_arguments(parser):
    """Say what can be chosen."""
    parser.add_argument(
        "tasks", nargs="*", choices=(*TASKS, []), help=f"of {', '.join(TASKS)}; default: all"
    )
    parser.add_argument("--models", nargs="+", help="of digits; default: all of the zoo")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of digits")
    parser.add_argument("--rounds", type=int, default=11, help="of overhead and sampling")
    parser.add_argument(
        "--sets",
        nargs="+",
        choices=("digits", "mnist10k"),
        default=["digits", "mnist10k"],
        help="of overhead and sampling",
    )


def measure(arguments, store, interpreters):
    """Make the records that are missing."""
    import torch

    torch.set_num_threads(arguments.threads)
    arguments.mnist = None if arguments.data is None else arguments.data / "mnist"
    tasks = list(arguments.tasks or TASKS)
    if arguments.mnist is None or not arguments.mnist.exists():
        print(f"MNIST: left out, for there is no folder mnist in --data {arguments.data}")
        tasks = [task for task in tasks if not task.startswith("mnist-")]
        arguments.sets = [name for name in arguments.sets if name == "digits"]
    arguments.work = arguments.work / "images"
    arguments.work.mkdir(parents=True, exist_ok=True)
    peers = {}
    for name in PEERS:
        if (interpreter := interpreters.of(name)) is None:
            print(interpreters.left_out(name))
        else:
            peers[name] = Peer(name, interpreter)
    for task in tasks:
        if task.startswith("mnist-"):
            import _images_mnist

            name = task.removeprefix("mnist-")
            if store.misses(f"mnist|{name}"):
                _images_mnist.run(name, store, arguments)
        else:
            importlib.import_module(f"_images_{task}").run(store, arguments, peers)
    for peer in peers.values():
        peer.process.stdin.close()  # which ends it
