"""The options of `fit` in words: what --help shows, in its order. `settings` says what values they take.

Apart from `settings` so that --help need not import pydantic; a test holds names and defaults of the two together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One option. `metavar` "" = a switch; `default` as help shows it, "" = not shown."""

    name: str
    section: str
    metavar: str
    help: str
    default: str = ""

    @property
    def flag(self) -> str:
        """As it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def told(self) -> str:
        """The help with the default."""
        return self.help + (f"  [default: {self.default}]" if self.default else "")


def _section(title: str, *rows: tuple[str, str, str] | tuple[str, str, str, str]) -> tuple[Option, ...]:
    return tuple(Option(row[0], title, *row[1:]) for row in rows)


FIT = (
    *_section(
        "What to learn from",
        ("val", "SHARE", "share of the images for validation, where the data brings none", "0.1"),
        ("test", "SHARE", "share of the images for the test, where the data brings none", "0.15"),
        ("split", "RUN|FILE", "keep every image where a run folder or a split.csv has it; only new ones are placed"),
        ("seed", "N", "decides the split and every order", "0"),
        ("allow_bad", "", "go on though more than 1 % of the images, or 10 % of a class, cannot be read"),
    ),
    *_section(
        "Backbone and features",
        ("backbone", "NAME", "a name from headway backbones, or torchvision:NAME", "tf_efficientnet_lite0"),
        (
            "weights",
            "none|FILE|local-dir:DIR",
            "random weights, or a file, instead of the backbone's own",
        ),
        ("image", "PIXELS", "side of the network's input", "224"),
        ("resize", "PIXELS|none", "short side before the crop", "as the weights ask"),
        ("fit", "crop|squash|pad", "how an image becomes square", "as the weights ask"),
        ("mean", "R,G,B", "mean of the channels, of values 0 to 1", "as the weights ask"),
        ("std", "R,G,B", "spread of the channels, of values 0 to 1", "as the weights ask"),
        ("taps", "auto|last|all", "features of the last layer, of all stages, or what validation backs", "auto"),
        ("views", "flip|N", "also learn from mirrored images, or from N random crops of each"),
    ),
    *_section(
        "Head",
        ("strategy", "auto|probe", "what is trained: the head on frozen features", "auto"),
        ("head", "linear|mlp:N,N", "softmax regression, or hidden layers of these widths", "linear"),
        ("dropout", "P,P", "dropout before each hidden layer; one number stands for all", "0"),
        ("l2", "auto|NUMBER", "strength of the L2 penalty, chosen on validation data or given", "auto"),
        ("class_weights", "", "weigh the classes as if each had the same number of images"),
    ),
    *_section(
        "Epochs, for a head with hidden layers",
        ("optimizer", "sgd|adam|adamw", "what takes the steps", "adamw"),
        ("lr", "NUMBER", "learning rate", "0.001"),
        ("momentum", "NUMBER", "of sgd", "0.9"),
        ("schedule", "none|cosine|step:N:F", "of the learning rate; step:7:0.1 = a tenth every 7 epochs", "cosine"),
        ("batch", "N", "images a step", "200"),
        ("epochs", "N", "at most", "30"),
        ("patience", "N", "stop after so many epochs without a better one", "5"),
        ("keep", "METRIC", "keep the epoch best by val.accuracy or val.loss", "val.accuracy"),
    ),
    *_section(
        "Machine",
        ("threads", "N", "processor cores to use", "all"),
        ("engine", "auto|torch|onnxruntime", "what computes features; auto = the fastest here", "auto"),
        ("precision", "fp32", "of the features", "fp32"),
        ("device", "auto|cpu|cuda|mps", "what trains", "auto"),
        ("no_cache", "", "neither read nor keep features"),
        ("offline", "", "ask no hub"),
    ),
    *_section("Run", ("run", "DIR", "the folder of the run", "runs/<data>-<number>")),
)
