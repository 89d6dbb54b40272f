"""Load the bundled iSQRT-COV network, classify 1,000 real images, print the accuracy and draw some of them.

python examples/demo.py [OUTPUT.png]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import mpncov_zoo
from mpncov_zoo.quiet import import_tensorflow

SAMPLE = Path(__file__).with_name("fashion_mnist_sample.npz")
COLUMNS, ROWS, CELL = 8, 5, 112


def main(output: str = "demo.png") -> None:
    import_tensorflow()  # without its start-up messages; only for a tidy terminal
    model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
    print(f"Loaded {model.load_report}.\n")
    with np.load(SAMPLE) as sample:
        pixels, labels = sample["pixels"], sample["labels"]
    logits = model.predict(model.preprocess(pixels), batch_size=250, verbose=0)
    predicted = logits.argmax(axis=1)
    print_table(model.labels, labels, predicted)
    draw_grid(pixels, model.labels, labels, predicted).save(output)
    print(f"\nWrote {output}: predicted labels, green where right; the true label is below a wrong one.")


def print_table(names: tuple[str, ...], labels: np.ndarray, predicted: np.ndarray) -> None:
    """Accuracy by class and in all."""
    print(f"{'class':<14}{'images':>8}{'right':>8}{'top-1':>9}   most often taken for")
    for index, name in enumerate(names):
        guesses = predicted[labels == index]
        right = int((guesses == index).sum())
        wrong = guesses[guesses != index]
        confused = names[np.bincount(wrong).argmax()] if len(wrong) else "-"
        print(f"{name:<14}{len(guesses):>8}{right:>8}{right / len(guesses):>9.1%}   {confused}")
    print(f"{'all':<14}{len(labels):>8}{(predicted == labels).sum():>8}{(predicted == labels).mean():>9.1%}")


def draw_grid(pixels: np.ndarray, names: tuple[str, ...], labels: np.ndarray, predicted: np.ndarray) -> Image.Image:
    """Evenly spread images of the sample, the first wrong ones among them."""
    wrong = np.flatnonzero(predicted != labels)[:COLUMNS]
    right = np.flatnonzero(predicted == labels)
    spread = right[np.linspace(0, len(right) - 1, COLUMNS * ROWS - len(wrong)).astype(int)]
    canvas = Image.new("RGB", (COLUMNS * CELL, ROWS * (CELL + 30)), "white")
    draw = ImageDraw.Draw(canvas)
    for cell, index in enumerate([*spread, *wrong]):
        x, y = cell % COLUMNS * CELL, cell // COLUMNS * (CELL + 30)
        image = Image.fromarray(pixels[index, :, :, 0]).resize((CELL - 6, CELL - 6), Image.Resampling.NEAREST)
        canvas.paste(image, (x + 3, y + 3))
        good = predicted[index] == labels[index]
        draw.text((x + 4, y + CELL - 2), names[predicted[index]], fill="#0a7a2f" if good else "#c01818")
        if not good:
            draw.text((x + 4, y + CELL + 11), f"is {names[labels[index]]}", fill="#444444")
    return canvas


if __name__ == "__main__":
    main(*sys.argv[1:])
