"""Does the offline sample behave like Fashion-MNIST?

    python benchmarks/sample_quality.py

A classifier that has seen only real images (5 nearest neighbours on the pixels of all 60,000 training images) is tested
on the sample's test images and on the real ones. If the sample is about as hard as the real thing, a pipeline tried on
it meets images of the right kind. The measured numbers are in results/bench_sample_quality.json.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from fashion_mnist import data, study


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)


def main() -> int:
    run = study.start("bench_sample_quality", "full")
    real, sample = run.data, data.load(data.root() / "data.zip")
    if real.kind != "official" or sample.kind != "sample":
        raise SystemExit("This compares the sample in data.zip with the official data; see `fashion-mnist data info`.")

    neighbours = KNeighborsClassifier(5, algorithm="brute", n_jobs=-1)
    neighbours.fit(np.concatenate([flat(real.x_train), flat(real.x_val)]), np.r_[real.y_train, real.y_val])
    headline = {
        "knn_accuracy_on_sample": neighbours.score(flat(sample.x_test), sample.y_test),
        "knn_accuracy_on_real_test": neighbours.score(flat(real.x_test), real.y_test),
        "sample_bytes": (data.root() / "data.zip").stat().st_size,
    }
    run.save_result(headline)
    for key, value in headline.items():
        print(f"{key:28} {value:,.4g}" if value < 1 else f"{key:28} {value:,}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
