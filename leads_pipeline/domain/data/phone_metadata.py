"""Where the accelerator's numbering plans are known to be those of ``phonenumbers``, and where they differ.

``rphonenumbers`` carries the plans of one release of libphonenumber, ``phonenumbers`` those of another. A pair of
versions stands here once ``scripts/compare_phone_metadata.py`` has compared the plans; any other pair is not trusted.
"""

# (rphonenumbers, phonenumbers) → country calling codes whose plans differ between the two.
COMPARED: dict[tuple[str, str], frozenset[int]] = {
    ("0.1.0", "9.0.43"): frozenset(
        {
            7, 34, 40, 45, 49, 57, 61, 86, 91, 229, 233, 238, 251, 254, 263, 267, 290, 358, 506, 592, 593, 595, 675,
            856, 965, 995,
        }
    ),
}  # fmt: skip
