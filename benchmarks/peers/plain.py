"""The job as a plain loop in PyTorch: what no framework can do in less."""

import torch

from peers.job import Job, Record, Tensors, given, load, taken


def main(job: Job, record: Record) -> None:
    """Do the job."""
    model = job.model()
    tensors = taken(model)
    for round_ in range(job.rounds):
        sums: Tensors = {}
        patients = 0
        for number in range(job.sites):
            load(model, tensors)
            _, n = job.train(model, number, round_)
            patients += n
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    sums[name] = sums[name].add_(parameter, alpha=n) if name in sums else parameter * n
        tensors = {name: total / patients for name, total in sums.items()}
        record.round_done()
    record.finish(tensors)


if __name__ == "__main__":
    main(*given())
