"""Makes the classifiers of screening and gate: `python -m training.screening train`, `train-replies`."""
