"""Compare two releases of phonenumbers: which countries' numbering plans differ?

    python -m pip install --target OLD phonenumbers==<rphonenumbers.__phonenumbers_version__>
    python scripts/compare_phone_metadata.py OLD

Prints the line for ``leads_pipeline/domain/data/phone_metadata.py``. What only formats a number for people is left out.
"""

import json
import subprocess
import sys
from importlib.metadata import version

PLANS = """
import json, sys
sys.path[:0] = sys.argv[1:]
import phonenumbers
KINDS = (
    "general_desc", "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip",
    "pager", "uan", "voicemail",
)
REST = (
    "international_prefix", "national_prefix", "national_prefix_for_parsing", "national_prefix_transform_rule",
    "leading_digits", "main_country_for_code", "same_mobile_and_fixed_line_pattern", "preferred_extn_prefix",
)
def kind(found):
    return found and [found.national_number_pattern, found.possible_length, found.possible_length_local_only]
plans = {"version": phonenumbers.__version__}
for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
    for region in regions:
        plan = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        plans[f"{code} {region}"] = [kind(getattr(plan, k)) for k in KINDS] + [getattr(plan, k) for k in REST]
print(json.dumps(plans))
"""


def plans_of(*directories: str) -> dict[str, object]:
    """The plans of the release in the directory, or of the installed one, by calling code and region."""
    told = subprocess.run([sys.executable, "-c", PLANS, *directories], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(told.stdout)
    return found


def main() -> None:
    """Compare the release in the directory that was named with the installed one."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    old, new = plans_of(sys.argv[1]), plans_of()
    compared = (version("rphonenumbers"), new.pop("version"))
    print(f"plans of {old.pop('version')} and {compared[1]}")
    codes = {int(key.split()[0]) for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    print(f"{compared}: frozenset({sorted(codes)}),")


if __name__ == "__main__":
    main()
