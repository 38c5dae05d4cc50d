"""What masking an update costs at a hospital, beside packing and unpacking the same update.

    python benchmarks/secure_aggregation.py                      # 20 hospitals, 4.3 million parameters, 30 groups
    python benchmarks/secure_aggregation.py --sites 5 --parameters 550000 --groups 7

One hospital of a consortium whose keys are dealt masks a shared block and a block for each group. Prints the ratio of
masking (masks, shares, boxes) to packing the answer and unpacking the task, each the median of `--repeats`.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import ec

from remind.federation.blocks import index_of, pack, unpack
from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.plan import Part, Plan
from remind.secagg.site import SecureSite


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--parameters", type=int, default=4_300_000, help="of the shared block")
    parser.add_argument("--groups", type=int, default=30)
    parser.add_argument("--of-group", type=int, default=4224, help="parameters of a group's block")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    names = [f"site-{i:02d}" for i in range(given.sites)]
    slots = given.repeats
    began = time.process_time()
    sites = {n: SecureSite.create("run", n, "ab" * 32, slots, ec.generate_private_key(ec.SECP384R1())) for n in names}
    book = Book(sites=tuple(sites[name].state.keys for name in names))
    one = sites[names[0]]
    one.deal(book, {name: sites[name].state.keys.public_key for name in names})
    setup = time.process_time() - began
    rng = np.random.default_rng(0)
    sizes = {"shared": given.parameters} | {f"group:{k + 1}": given.of_group for k in range(given.groups)}
    moved = {block: rng.normal(scale=1e-3, size=size) for block, size in sizes.items()}
    parts = {block: Part(tuple(names), "digest") for block in sizes}
    tensors = {"fusion.experts.weight": torch.zeros(given.parameters)}
    tensors |= {f"fusion.groups.{k + 1}.phi": torch.zeros(given.of_group) for k in range(given.groups)}
    index = index_of(tensors, "float32")

    def plain(slot: int) -> None:
        unpack(index, pack(tensors, "float32"))

    def masked(slot: int) -> None:
        payloads = {block: Payload.of(values, np.ones(3), given.sites) for block, values in moved.items()}
        one.mask(Plan(slot, "common", "question", parts), payloads)

    packing, masking = _seconds(plain, given.repeats), _seconds(masked, given.repeats)
    print(f"| sites | parameters | groups | packing, s | masking, s | ratio | keys and shares of {slots} slots, s |")
    print("|---|---|---|---|---|---|---|")
    whole = sum(sizes.values())
    times = f"{packing:.3g} | {masking:.3g} | {masking / packing:.3g} | {setup:.3g}"
    print(f"| {given.sites} | {whole} | {given.groups} | {times} |")


def _seconds(work: Callable[[int], None], repeats: int) -> float:
    found = []
    for slot in range(repeats):
        began = time.process_time()
        work(slot)
        found.append(time.process_time() - began)
    return median(found)


if __name__ == "__main__":
    main()
