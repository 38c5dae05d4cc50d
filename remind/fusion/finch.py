"""FINCH: first-neighbour clustering without a given number of clusters (Sarfraz et al., CVPR 2019, arXiv 1902.11266).

Two points are linked if one is the other's nearest neighbour by cosine, or if both have the same nearest neighbour. The
clusters are the connected components. Repeated on the means of the clusters, this gives ever coarser partitions.

Shapes: N points, D numbers each, K clusters.
"""

import torch
from torch import Tensor
from torch.nn import functional


def partitions(x_ND: Tensor) -> list[Tensor]:
    """Return each point's cluster (N,) in every partition, the finest first; the last has one or two clusters."""
    number = len(x_ND)
    found: list[Tensor] = []
    label_N = torch.arange(number, device=x_ND.device)
    while number > 1:
        means_KD = means(x_ND, label_N, number)
        coarser_K = first_neighbours(means_KD)
        fewer = int(coarser_K.max()) + 1
        if found and fewer == number:
            break
        label_N, number = coarser_K[label_N], fewer
        found.append(label_N)
    return found or [label_N]


def first_neighbours(x_ND: Tensor) -> Tensor:
    """Return the cluster (N,) of each point: connected components of the first-neighbour graph, numbered from 0."""
    unit_ND = functional.normalize(x_ND, dim=1)
    similarity_NN = unit_ND @ unit_ND.T
    similarity_NN.fill_diagonal_(-torch.inf)
    # Linking each point to its nearest neighbour suffices: two points with the same neighbour are then connected too.
    nearest_N = similarity_NN.argmax(dim=1)
    root_N = torch.arange(len(x_ND), device=x_ND.device)
    while True:
        lower_N = torch.minimum(root_N, root_N[nearest_N])
        lower_N = lower_N.scatter_reduce(0, nearest_N, lower_N, "amin")
        if torch.equal(lower_N, root_N):
            break
        root_N = lower_N
    cluster_N: Tensor = torch.unique(root_N, return_inverse=True)[1]
    return cluster_N


def means(x_ND: Tensor, label_N: Tensor, number: int) -> Tensor:
    """Return the mean of each cluster, (K, D)."""
    sum_KD = x_ND.new_zeros(number, x_ND.shape[1]).index_add_(0, label_N, x_ND)
    return sum_KD / torch.bincount(label_N, minlength=number).unsqueeze(1)


def centres(x_ND: Tensor, most: int, least: int = 1) -> Tensor:
    """Return at most `most` means of clusters of at least `least` points, (K, D), the largest cluster first.

    They come from the partition with the most such clusters, at equal numbers from the one whose clusters have more
    points. The result is empty if there are too few points.
    """
    whole_N = torch.zeros(len(x_ND), dtype=torch.long, device=x_ND.device)
    best_ND, best = x_ND[:0], (0, 0)
    for label_N in (*partitions(x_ND), whole_N):
        size_K = torch.bincount(label_N)
        large_K = (size_K >= least).nonzero().squeeze(1)
        quality = len(large_K), int(size_K[large_K].sum())
        if len(large_K) <= most and quality > best:
            order_K = large_K[size_K[large_K].argsort(descending=True, stable=True)]
            best_ND, best = means(x_ND, label_N, len(size_K))[order_K], quality
    return best_ND
