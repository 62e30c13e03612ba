"""MONAI dictionary transforms over physics and io."""
