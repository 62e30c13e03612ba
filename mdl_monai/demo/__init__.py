"""`python -m mdl_monai.demo`: every bundle on embedded data, and a page to look at."""
