"""Every budget of the study: one row a budget, one column a profile; None images means all there are."""

from __future__ import annotations

from types import SimpleNamespace

PROFILES = ("smoke", "quick", "full")

BUDGETS = {  # smoke, quick (on other data than the official), full
    "train_images": (600, 2_000, None),
    "validation_images": (200, 500, None),
    "test_images": (200, 500, None),
    "tsne_points": (300, 6_000, 70_000),
    "seeds": (1, 1, 3),  # how many trainings a headline mean is taken over
    "mlp_epochs": (1, 5, 20),
    "cnn_epochs": (1, 5, 20),
    "resnet_epochs": (1, 1, 12),
    "deep_epochs": (1, 1, 16),
    "augmented_epochs": (1, 1, 36),
    "transfer_images": ((200,), (500,), (1_000, 5_000, 50_000)),  # of the training set
    "transfer_epochs": ((1,), (1,), (20, 10, 4)),  # with so many images
    "transfer_choices": (False, False, True),  # whether the way of fine-tuning is chosen
    "transfer_size": (32, 32, 64),  # pixels that an image is enlarged to
    "tuning_images": (None, 800, None),  # of the training set, in the studies
    "tuning_epochs": (3, 3, 9),  # of a configuration that is not pruned
    "grid_trials": (3, 3, None),  # configurations of a grid; None takes all
    "search_trials": (2, 2, 18),
    "ablation_epochs": (1, 1, 12),  # of each training that changes one thing
    "ablation_seeds": (1, 1, 3),
    "ablation_recipes": (3, 2, None),  # ours and so many less one that differ from it; None takes all
    "original_epochs": (1, 1, 50),  # at most, by the starting projects' recipes, which stop by themselves
    "disturbed_images": (100, 100, 2_000),  # of the test set, for the robustness of a network
    "folds": (2, 2, 5),  # of the cross-validation that looks for wrong labels
    "explained_images": (20, 30, 1_000),  # how many test images the checks of explanations are averaged over
    "explained_deeper_images": (10, 10, 500),  # by networks that cost twenty to thirty times as much
    "checked_images": (50, 200, 2_000),  # that a shipped network answers again, to be held against its predictions
}


def named(profile: str) -> SimpleNamespace:
    """The budgets of a profile as attributes, its name as ``name``; ValueError naming the choices if there is none."""
    if profile not in PROFILES:
        raise ValueError(f"There is no profile {profile!r}; choose one of {', '.join(PROFILES)}.")
    column = PROFILES.index(profile)
    return SimpleNamespace(name=profile, **{budget: values[column] for budget, values in BUDGETS.items()})
