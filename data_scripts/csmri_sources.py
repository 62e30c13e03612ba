"""Where the files of the CS-MRI sets lie, as `owner/repository/revision/path` on GitHub, and their splits."""

ISTA = "jianzhangcs/ISTA-Net-PyTorch/90a49d17c3b95335031369d4971c046ee6b9e47e"
ADMM_TRAIN = "yangyan92/Deep-ADMM-Net/c1c424214f0e5ec633ea3876ac9b5b2ccd799cbe"
ADMM_TEST = "yangyan92/Deep-ADMM-Net/09209541019f024b7e7cfb8e680b5ebd0b837754"
_ADMM_MASK_NET = "yangyan92/Deep-ADMM-Net/e67918c3f11edcc29dcadc7f6176d9c162fd4910"
_CSNET = "yangyan92/ADMM-CSNet/08ce2be93ac1406ab1f93c40b5d4690972b89ef0"
_COMPLEX = f"{_CSNET}/Generic-ADMM-CSNet-ComplexMRI"
_REAL = f"{_CSNET}/Generic-ADMM-CSNet-RealMRI"
OPEN_MS = "muschellij2/open_ms_data/HEAD"
SIAT = "yqx7150/EDAEPRec/3eb782801616d3416b72b0aa8fe9371387173a65"
SIGPY = "mikgroup/sigpy-mri-tutorial/7551de0e05eac7ad28b0713bfe6110e0b8e71bc9"

OPEN_MS_SPLIT = {"train": ["p01_s2", "p04_s1", "p12_s1", "p12_s2"], "val": ["p03_s2"], "test": ["p19_s2"]}
OPEN_MS_SLICES = 48
OPEN_MS_LEFT_OUT = {("p03_s2", 0)}  # absent from the set that the project uses

_COMPLEX_MASKS = {
    "1D-Cartesian-0.2": "cartesian1d_20",
    "1D-Cartesian-0.3": "cartesian1d_30",
    "1D-Cartesian-0.4": "cartesian1d_40",
    "2D-random-0.05": "random2d_5",
    "2D-random-0.1": "random2d_10",
    "2D-random-0.2": "random2d_20",
    "2D-random-0.3": "random2d_30",
    "2D-random-0.4": "random2d_40",
}
MASKS = {
    **{f"pseudo_radial_{r}": f"{_ADMM_MASK_NET}/mask/mask_{r}.mat" for r in (10, 20, 30, 40, 50)},
    **{ours: f"{_COMPLEX}/mask/{theirs}.mat" for theirs, ours in _COMPLEX_MASKS.items()},
}
WEIGHTS = {
    **{f"basic_radial20_stage{n}": f"{_ADMM_MASK_NET}/net/network_20/net-stage{n}.mat" for n in (7, 14, 15)},
    **{f"generic_{n}-complex-S10": f"{_COMPLEX}/net/NET-{n}-complex-S10.mat" for n in _COMPLEX_MASKS},
    **{f"generic_real_radial20_S{n}": f"{_REAL}/net/NET-Pseudo-radial-0.2-real-S{n}.mat" for n in (10, 11)},
}
