"""``python -m leads_pipeline``: the same as ``leads``."""

from leads_pipeline.cli import main

if __name__ == "__main__":
    main()
