"""How a network is applied to a case: slice by slice, with or without mixed precision."""
