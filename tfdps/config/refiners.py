"""The families of procedural images that a refiner learns from, and how each is drawn by default."""

DEFAULTS: dict[str, dict[str, float]] = {  # docs/refiner.md has what they were chosen by
    "strokes": {"refiner_start": 0.4, "refiner_levels": 3},
    "shapes": {"refiner_start": 0.4, "refiner_levels": 5},
    "scenes": {"refiner_start": 0.3, "refiner_levels": 3},
    "mixed": {"refiner_start": 0.4, "refiner_levels": 4},
}
FAMILIES = tuple(DEFAULTS)
NAMES = ("none", *FAMILIES)
