"""Near-duplicates among any number of clips, by the 64-bit hashes of their pictures."""

_BITS = 64


class NearDuplicates:
    """Clips by hash; `first` finds the one added first whose hash differs in at most `limit` bits.

    Pigeonhole: cut a hash into limit + 1 bands, and two hashes that differ in at most `limit` bits are equal in one of them, so only
    clips that share a band are compared (Manku, Jain and Das Sarma, Detecting Near-Duplicates for Web Crawling, 2007).
    """

    def __init__(self, limit: int):
        self._limit = limit
        edges = [_BITS * band // (limit + 1) for band in range(limit + 2)]
        self._bands = [(start, (1 << (stop - start)) - 1) for start, stop in zip(edges, edges[1:])]
        self._places: list[dict[int, list[int]]] = [{} for _ in self._bands]
        self._clips: list[tuple[int, str]] = []

    def first(self, digits: str) -> tuple[str, int] | None:
        """Returns (key, bits that differ) of the first clip added that is near the hash `digits` (16 hex digits), or None."""
        value, best = int(digits, 16), None
        for (shift, mask), places in zip(self._bands, self._places):
            for place in places.get(value >> shift & mask, ()):
                if best is not None and place >= best:
                    break  # places are in the order of adding
                if (self._clips[place][0] ^ value).bit_count() <= self._limit:
                    best = place
                    break
        return None if best is None else (self._clips[best][1], (self._clips[best][0] ^ value).bit_count())

    def add(self, key: str, digits: str) -> None:
        """Adds a clip."""
        value = int(digits, 16)
        for (shift, mask), places in zip(self._bands, self._places):
            places.setdefault(value >> shift & mask, []).append(len(self._clips))
        self._clips.append((value, key))
