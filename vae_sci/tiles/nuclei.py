"""Nuclei in an image, by classical means: their size from the image, blobs, outlines, joining.

Blobs are maxima of the Laplacian of the image smoothed at a sixth of a nucleus (Lindeberg 1998,
"Feature detection with automatic scale selection"), more of them than nuclei. Each is outlined at
a share of its own brightness, so that a dim nucleus is found beside a bright one; then neighbours
join where neither brightness nor shape parts them (as in Al-Kofahi et al. 2010, doi
10.1109/TBME.2009.2035102, who also seed by the Laplacian and let distances decide).
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    gaussian_laplace,
    grey_opening,
    maximum,
    zoom,
)
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import label as connected
from skimage.segmentation import watershed

Labels = NDArray[np.int32]
Float = NDArray[np.float32]

# Chosen for the best F1 on dsb2018_nuclei and coelho_nuclei together: docs/segmentation.md.
BLOB = 0.16  # smoothing of blobs, in diameters: less makes blobs of texture, more joins neighbours
OUTLINE = 0.42  # a nucleus ends at this share of its brightness above background: half, blurred …
BRIGHT = 0.9  # … brightness being this quantile of its pixels: the highest ones may be debris
UNDIVIDED = 0.77  # neighbours are one where their saddle is this high, see `_join`
SHAPE = 0.63  # weight of distances in it, the rest is brightness; by logistic regression on pairs
COARSE = 30  # pixels per diameter that are enough to find it: larger nuclei only cost time
TISSUE = 0.05  # share of the field above which a blob is tissue or a clump, not a nucleus


def typical_diameter(image: NDArray[Any]) -> float:
    """Diameter in pixels of the typical nucleus of `image` (H, W); 0 where nothing is bright.

    Twice the depth of the typical blob of the foreground, the foreground being found again and
    again over a background as wide as one and a quarter of these diameters. Haze around nuclei,
    however bright, is thus left behind step by step, and nuclei that stand free are not changed.
    """
    smooth = gaussian_filter(image.astype(np.float32), 1)  # against the noise of single pixels
    largest = np.sqrt(4 / np.pi * TISSUE * image.size)
    diameter = min(_typical_depth(smooth), largest)
    for _ in range(12):  # it settles within a few rounds, or goes to and fro between two sizes
        if diameter == 0:
            break
        now = _typical_depth(smooth - background(smooth, 1.25 * diameter))
        if now > min(largest, 1.5 * diameter):  # haze was taken for a nucleus: begin below it
            now = diameter / 2
        settled = abs(now - diameter) < 0.02 * diameter
        diameter = now
        if settled:
            break
    return diameter


def _typical_depth(above: Float) -> float:
    """Twice the depth of the foreground's peaks, median over their area; 0 without foreground."""
    if above.min() == above.max():
        return 0.0
    mask = above > 0.7 * threshold_otsu(above)  # lower than Otsu, so that dim nuclei are whole
    depth = distance_transform_edt(mask)
    places = peak_local_max(
        depth, min_distance=2, labels=mask.astype(np.int32), exclude_border=False
    )
    depths = np.sort(depth[tuple(places.T)])
    if len(depths) == 0:
        return 0.0
    area = np.cumsum(depths**2)
    return 2 * float(depths[np.searchsorted(area, area[-1] / 2)])


def background(image: Float, width: float) -> Float:
    """What varies more slowly than `width` pixels: an opening of the coarse image, smoothed."""
    step = max(1, int(width // 8))  # eight pixels across are enough for what varies so slowly
    coarse = _coarser(image, step)
    size = min(2 * round(width / step / 2) + 1, *(n | 1 for n in coarse.shape))
    low = gaussian_filter(grey_opening(coarse, (size, size)), size / 2)
    factors = [n / m for n, m in zip(image.shape, low.shape, strict=True)]
    return zoom(low, factors, order=1, mode="nearest", grid_mode=True).astype(np.float32)


def _coarser(image: Float, step: int) -> Float:
    """Means over squares of `step` pixels; what is left over at the far edges is left out."""
    height, width = (n // step * step for n in image.shape)
    squares = image[:height, :width].reshape(height // step, step, width // step, step)
    return squares.mean(axis=(1, 3)) if step > 1 else image


def find_nuclei(image: NDArray[Any], diameter: float | None = None) -> tuple[Labels, int]:
    """Labels (H, W), 1 … n, of all bright objects of the order of `diameter` pixels.

    diameter : None takes `typical_diameter`. Nothing but noise gives no object. Moreover the number
    of spots left out because they are no brighter than the haze around them.
    """
    diameter = diameter or typical_diameter(image)
    if diameter == 0:
        return np.zeros(image.shape, np.int32), 0
    raw = image.astype(np.float32)
    step = max(1, int(diameter // COARSE))
    objects, hazy = _find(_coarser(raw, step), diameter / step, _pixel_noise(raw) / step)
    objects = objects.repeat(step, axis=0).repeat(step, axis=1)
    missing = [(0, n - m) for n, m in zip(image.shape, objects.shape, strict=True)]
    return np.pad(objects, missing, mode="edge"), hazy


def _find(raw: Float, diameter: float, noise: float) -> tuple[Labels, int]:
    """As `find_nuclei`; `noise` is the standard deviation of a pixel."""
    above = gaussian_filter(raw, diameter / 20, truncate=3)  # moves no outline, calms noise
    haze = background(above, 1.5 * diameter)  # wider than a nucleus, which it must not take away
    above -= haze
    mask = above > floor(above)
    # the square root lets dim nuclei beside bright ones make blobs of their own
    blobs = -gaussian_laplace(np.sqrt(np.maximum(above, 0)), BLOB * diameter, truncate=3)
    # maxima nearer than the blobs' own smoothing are not two
    seeds = _peaks(blobs, mask & (blobs > 0), BLOB * diameter)
    count = int(seeds.max(initial=0))
    if count == 0:
        return seeds, 0
    regions = watershed(-blobs, seeds, mask=mask)
    bright = _brightness(regions, above, count)
    objects = np.where(above > OUTLINE * bright[regions], regions, 0).astype(np.int32)

    area = np.maximum(np.bincount(objects.ravel(), minlength=count + 1), 1)
    lies_in = np.bincount(objects.ravel(), haze.ravel() - np.percentile(haze, 1), count + 1) / area
    width = diameter / 6  # as wide as noise can be averaged without losing a nucleus
    smooth = gaussian_filter(above, width, truncate=3)
    smooth -= np.percentile(smooth, 20)  # the opening lies at the lower end of the noise
    # noise alone peaks at up to eight of its own standard deviations after that smoothing
    noise *= max(1.0, 8 / (2 * np.sqrt(np.pi) * max(width, 0.3)))
    peak = np.append(0, np.asarray(maximum(smooth, objects, np.arange(1, count + 1))))
    seen, clear = peak > noise, bright > lies_in
    hazy = connected((seen & ~clear)[objects], connectivity=1)
    objects = np.where((seen & clear)[objects], objects, 0)
    objects = _join(objects, blobs, count)
    return _largest_pieces(objects), int(hazy.max())


def floor(above: Float) -> float:
    """Grey level over background that tells signal from noise.

    Otsu's threshold of the square root, or down to half of it where what lies below is quiet.
    """
    sample = np.maximum(above[::2, ::2], 0)
    otsu = threshold_otsu(np.sqrt(sample)) ** 2
    below = sample[sample <= otsu]
    middle = np.median(below)
    noise = 1.4826 * np.median(np.abs(below - middle))  # of normal noise, the standard deviation
    return float(np.clip(middle + 4 * noise, 0.5 * otsu, otsu))


def _pixel_noise(raw: Float) -> float:
    """Standard deviation of a pixel, from differences of neighbours; at least one grey level."""
    return max(1.0, float(1.4826 * np.median(np.abs(np.diff(raw, axis=1))) / np.sqrt(2)))


def _peaks(image: Float, mask: NDArray[np.bool_], distance: float) -> Labels:
    places = peak_local_max(
        image,
        min_distance=max(1, round(distance)),
        labels=mask.astype(np.int32),
        exclude_border=False,
    )
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    return seeds


def _brightness(labels: Labels, image: Float, count: int) -> Float:
    """Quantile `BRIGHT` (count + 1,) of `image` in labels 1 … count; infinite outside, at 0."""
    place = np.flatnonzero(labels)
    place = place[np.lexsort((image.ravel()[place], labels.ravel()[place]))]
    number = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    first = np.cumsum(number) - number
    level = np.full(count + 1, np.inf, np.float32)
    level[1:][number > 0] = image.ravel()[
        place[(first + (number * BRIGHT).astype(np.int64))[number > 0]]
    ]
    return level


def touching(labels: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of neighbouring pixels that carry two different labels."""
    index = np.arange(labels.size).reshape(labels.shape)
    pairs = []
    for one, two in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        a, b = labels[one], labels[two]
        differ = (a != b) & (a > 0) & (b > 0)
        pairs.append((index[one][differ], index[two][differ]))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _join(labels: Labels, blobs: Float, count: int) -> Labels:
    """Join neighbours, the most alike first, until every saddle lies below `UNDIVIDED`.

    Two landscapes are looked at: `blobs` (brightness) and the distance to the outside (shape). A
    saddle is the highest point of the common border over the lower of the two peaks, the mean of
    both landscapes weighted by `SHAPE`. Joined, two parts have the higher peaks, so that the next
    neighbour joins less easily: chains of touching nuclei do not run together.
    """
    one, two = touching(labels)
    a, b = labels.ravel()[one], labels.ravel()[two]
    pairs, which = np.unique(
        np.minimum(a, b).astype(np.int64) * (count + 1) + np.maximum(a, b), return_inverse=True
    )
    depth = distance_transform_edt(labels > 0).astype(np.float32)
    saddles = np.zeros((len(pairs), 2))
    peaks = np.full((count + 1, 2), 1e-9)
    for column, landscape in enumerate((blobs, depth)):
        values = landscape.ravel()
        np.maximum.at(saddles[:, column], which, np.minimum(values[one], values[two]))
        np.maximum.at(peaks[:, column], labels.ravel(), values)
    near: list[dict[int, NDArray[np.float64]]] = [{} for _ in range(count + 1)]
    for pair, saddle in zip(pairs.tolist(), saddles, strict=True):
        first, second = divmod(pair, count + 1)
        near[first][second] = near[second][first] = saddle

    def height(i: int, j: int) -> float:
        ratio = near[i][j] / np.minimum(peaks[i], peaks[j])
        return float((1 - SHAPE) * ratio[0] + SHAPE * ratio[1])

    queue = [(-height(i, j), i, j) for i in range(1, count + 1) for j in near[i] if i < j]
    queue = [entry for entry in queue if -entry[0] > UNDIVIDED]
    heapq.heapify(queue)
    owner = np.arange(count + 1)
    while queue:
        negative, i, j = heapq.heappop(queue)
        if j not in near[i] or height(i, j) != -negative:  # one of them has changed since
            continue
        owner[owner == j] = i
        peaks[i] = np.maximum(peaks[i], peaks[j])
        for k, saddle in near[j].items():
            del near[k][j]
            if k != i:
                near[i][k] = near[k][i] = np.maximum(saddle, near[i].get(k, saddle))
        near[j] = {}
        for k in near[i]:
            if height(i, k) > UNDIVIDED:
                heapq.heappush(queue, (-height(i, k), i, k))
    return owner[labels].astype(np.int32)


def _largest_pieces(labels: Labels) -> Labels:
    """Of every label its largest connected piece, numbered anew from 1."""
    pieces = connected(labels, connectivity=1)
    area = np.bincount(pieces.ravel())
    label = np.zeros(len(area), np.int32)
    label[pieces.ravel()] = labels.ravel()
    order = np.lexsort((-area, label))
    largest = order[np.unique(label[order], return_index=True)[1]]
    largest = np.sort(largest[label[largest] > 0])
    number = np.zeros(len(area), np.int32)
    number[largest] = np.arange(1, len(largest) + 1)
    return number[pieces]
