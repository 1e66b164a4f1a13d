"""Accuracy on real test images of a logistic regression trained on generated ones.

python benchmarks/logistic_regression.py --model_dir=runs/mnist --dataset=mnist --data_dir=DATA
"""

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression

from tfdps import data, samples


def pixels(images):
    """uint8 [n,H,W,C] -> float [n, HWC] in [-1, 1]."""
    return images.reshape(len(images), -1) / 127.5 - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_dir")
    parser.add_argument("--num", type=int, default=10_000)
    args = parser.parse_args()
    sampler = samples.load_sampler(args.model_dir)
    labels = np.arange(args.num) % len(sampler.class_names)
    classifier = LogisticRegression(C=0.1, max_iter=300)
    classifier.fit(pixels(sampler.sample(labels, 0)), labels)
    test = data.load(args.dataset, data_dir=args.data_dir, split="test")
    accuracy = classifier.score(pixels(test.images), test.labels)
    print(
        f"{args.model_dir}: {100 * accuracy:.1f} % of {len(test)} test images ({args.num} generated)"
    )


if __name__ == "__main__":
    main()
