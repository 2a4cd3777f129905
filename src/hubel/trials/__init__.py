"""Many short trainings to find good choices: a search of hyperparameters."""
