"""The options of `fit` in words: what --help shows, in its order. `settings` says what values they take.

Apart from `settings` so that --help need not import pydantic; a test holds names and defaults of the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Option:
    """One option. `metavar` "" = a switch; `default` as help shows it, "" = not shown.

    A switch can be taken back (--no-NAME), as the strategy or a recipe may have set it.
    """

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
    def negative(self) -> str:
        """What takes a switch back, "" where nothing does."""
        return "" if self.metavar or self.name.startswith("no_") else "--no-" + self.name.replace("_", "-")

    @property
    def told(self) -> str:
        """The help with the default."""
        return self.help + (f"  [default: {self.default}]" if self.default else "")


def _section(title: str, *rows: tuple[str, str, str] | tuple[str, str, str, str]) -> tuple[Option, ...]:
    return tuple(Option(row[0], title, *row[1:]) for row in rows)


# A default with bars is that of probe | finetune | scratch.
FIT = (
    *_section(
        "Strategy",
        (
            "strategy",
            "auto|probe|finetune|scratch",
            "train a head on frozen features; the network too; or a network from random weights",
            "probe; scratch for --backbone cnn",
        ),
        (
            "budget",
            "TIME",
            "as 90s, 10m, 2h: all of fit in that time; dearer roads than the probe only where they fit and may pay",
        ),
        ("recipe", "NAME|FILE", "begin with named settings (see headway recipes); what is typed goes before them"),
        ("thaw", "all|K", "finetune: train the last K stages, 0 = the head alone", "0 | all | all"),
        ("thaw_every", "N", "finetune: begin with the last stage, thaw one more every N epochs; 0 = at once", "0"),
        ("head_init", "probe|random", "finetune: begin with the head solved on features", "probe | probe | random"),
    ),
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
        (
            "backbone",
            "NAME",
            "a name from headway backbones, torchvision:NAME, hf:FOLDER (transformers), or cnn, small, from scratch",
            "tf_efficientnet_lite0",
        ),
        (
            "weights",
            "none|FILE|local-dir:DIR",
            "random weights, or a file, instead of the backbone's own",
        ),
        ("image", "PIXELS", "side of the network's input", "224; 32 for cnn"),
        ("resize", "PIXELS|none", "short side before the crop", "as the weights ask"),
        ("fit", "crop|squash|pad", "how an image becomes square", "as the weights ask"),
        ("mean", "R,G,B", "mean of the channels, of values 0 to 1", "as the weights ask"),
        ("std", "R,G,B", "spread of the channels, of values 0 to 1", "as the weights ask"),
        (
            "taps",
            "auto|last|all",
            "features of the last layer, of all stages, or what validation backs",
            "auto | last | last",
        ),
        ("views", "flip|N", "also learn from mirrored images, or from N random crops of each, seen once and kept"),
    ),
    *_section(
        "Head",
        (
            "head",
            "linear|prototype|mlp:N,N",
            "softmax regression, nearest class mean, or hidden layers of these widths",
            "linear",
        ),
        ("dropout", "P,P", "dropout before each hidden layer; one number stands for all", "0"),
        ("l2", "auto|NUMBER", "strength of the L2 penalty, chosen on validation data or given", "auto"),
        (
            "balance",
            "none|weights|logit",
            "let each class count alike, however many images it has: in the loss, or by a shift of the logits",
            "none",
        ),
        ("standardize", "", "before hidden layers: features to mean 0, spread 1", "on"),
        ("log_softmax", "", "summary: show log-softmax as the last layer (the same network in logits)", "off"),
    ),
    *_section(
        "Augmentation, for finetune and scratch",
        (
            "augment",
            "auto|none|flip|crop|trivial|rand",
            "how training images are changed anew in each epoch; auto = crop, flip for scratch up to 64 pixels, "
            "none where part of the network stays frozen: it then runs once",
            "none | auto | auto",
        ),
        ("crop_scale", "SHARE", "smallest share of the image that a random crop keeps", "0.35"),
        ("erase", "P", "how often a random box is erased", "0"),
        (
            "mixup",
            "ALPHA",
            "blend pairs of images, Beta(ALPHA, ALPHA); of a head with hidden layers: their features; 0 = never",
            "0",
        ),
        ("cutmix", "ALPHA", "put a box of one image into another, Beta(ALPHA, ALPHA); 0 = never", "0"),
    ),
    *_section(
        "Training by epochs: finetune, scratch, and heads with hidden layers",
        ("epochs", "N|auto", "at most; auto = for 1,200 steps, 5 to 30", "auto | 5 | 30"),
        ("batch", "N", "images a step", "200 | 32 | 128"),
        ("micro_batch", "N", "images at once; a step is made of several", "the batch"),
        ("optimizer", "sgd|adam|adamw", "what takes the steps", "adamw"),
        ("lr", "NUMBER|auto", "learning rate; auto = found by a range test", "0.002 | 1e-05 | 0.003"),
        ("momentum", "NUMBER", "of sgd", "0.9"),
        ("nesterov", "", "Nesterov's momentum, of sgd", "off"),
        ("weight_decay", "NUMBER", "of weights, not of biases and norms; 0 but for adamw", "1 | 0.01 | 0.05"),
        ("layer_decay", "NUMBER", "finetune: learning rate of each stage over that of the next", "1 | 0.8 | 1"),
        (
            "schedule",
            "none|cosine|onecycle|step:N:F",
            "of the learning rate; step:7:0.1 = a tenth every 7 epochs",
            "cosine | cosine | onecycle",
        ),
        ("warmup", "EPOCHS", "let the learning rate rise first, parts of an epoch too", "0 | 0.5 | 0"),
        ("patience", "N", "stop after so many epochs without a better one; 0 = never", "5 | 0 | 0"),
        ("until", "METRIC=VALUE", "stop when reached, as val.accuracy=0.9 or val.loss=0.1"),
        (
            "keep",
            "METRIC",
            "keep the epoch best by val.accuracy or val.loss",
            "val.accuracy | val.loss | val.accuracy",
        ),
        ("label_smoothing", "SHARE", "share of each label given to all classes", "0"),
        ("ema", "DECAY", "keep the moving average of the weights, as 0.999; 0 = the weights", "0"),
        ("clip", "NORM", "longest gradient; 0 = any", "0 | 1 | 0"),
        ("freeze_bn", "", "finetune: keep the statistics of BatchNorm in thawed stages too", "on | on | off"),
        ("sync_bn", "", "several processes: BatchNorm over all of them", "off"),
    ),
    *_section(
        "Machine",
        ("threads", "N", "processor cores to use", "all"),
        ("workers", "N", "that prepare images while the network trains; 0 = none beside it", "as --threads"),
        (
            "engine",
            "auto|torch|compiled|onnxruntime|openvino|native",
            "what computes features; auto = the fastest here",
            "auto",
        ),
        (
            "precision",
            "fp32|int8|auto|bf16|fp16",
            "of the frozen network: int8, or auto = int8 where it saves time and loses no accuracy; "
            "of training: bf16, fp16",
            "fp32",
        ),
        ("portable", "", "with int8: put an fp32 bundle into the bundle, for machines without openvino; one more pass"),
        ("device", "auto|cpu|cuda|mps", "what trains", "auto"),
        ("checkpoint_every", "SECONDS", "save the state of training so often, beside every epoch's end", "60"),
        ("no_cache", "", "neither read nor keep features"),
        ("offline", "", "ask no hub"),
        ("allow_inexact", "", "go on in smaller parts where memory runs out, though BatchNorm then differs"),
    ),
    *_section(
        "Run",
        ("run", "DIR", "the folder of the run", "runs/<data>-<number>"),
        (
            "map",
            "none|pca|umap",
            "the feature map in the report; umap (extra [map]) adds a view, in 20 s and more",
            "pca",
        ),
        (
            "track",
            "none|tensorboard|mlflow",
            "tell a tracker settings, curves and results too, mlflow report and bundle as well (extra [track])",
            "none",
        ),
    ),
)

# Of the command alone: it is no setting, but stands for all of them.
RESUME = Option("resume", "Run", "RUN", "go on with that run where it was stopped: its DATA, its options, nothing else")

# Of `predict`, whose other options are few and stand in its signature.
CONFIDENCE = _section(
    "How sure",
    ("coverage", "C", "tell a set of classes that holds the true one with this probability, as 0.95"),
    ("unknown", "R", "flag images unlike those that were learnt from, at this false-alarm rate, as 0.01"),
)

SERVE = (
    *_section(
        "Where",
        ("host", "ADDRESS", "where to listen; beyond this machine a token is needed", "127.0.0.1"),
        ("port", "N", "0 = any that is free", "8000"),
        ("token", "TEXT", "what clients must send; as HEADWAY_TOKEN it stays out of the list of processes"),
    ),
    *_section(
        "How much",
        ("max_body", "SIZE", "largest body of a request", "20MB"),
        ("max_pixels", "N", "most pixels of an image", "as the bundle says"),
        ("workers", "N", "processes on the one port, which share the cores", "1"),
        ("threads", "N", "processor cores to use", "all"),
    ),
)

# `view` shows the same kind of server, on a port of its own.
VIEW = tuple(
    replace(option, default="8100") if option.name == "port" else option
    for option in SERVE
    if option.name in ("host", "port", "token")
)

# Of `explain`.
EXPLANATION = _section(
    "What to show",
    (
        "tap",
        "TAP",
        "the map to look at: last, stage3 and so on where the head reads that stage, or all that it reads",
        "all where the head reads several, else last",
    ),
    ("out", "DIR", "the folder of the pictures; what lies there already is kept", "explained"),
)

# What one call of `summary` needs of all these.
SUMMARY = tuple(
    option
    for option in FIT
    if option.name
    in ("strategy", "recipe", "thaw", "thaw_every", "backbone", "weights", "image", "head", "dropout", "log_softmax")
)
# `compare` says by --strategies or --recipes what is tried.
COMPARE = tuple(
    replace(option, default="runs/<data>-compare-<number>") if option.name == "run" else option
    for option in FIT
    if option.name not in ("strategy", "recipe", "budget")
)
# What `plan` costs may hang on: data, network, how it is trained; `epochs` and the like go to the roads that have them.
PLAN = tuple(
    option
    for option in FIT
    if option.name
    in (
        *("budget", "val", "test", "seed", "backbone", "weights", "image", "resize", "fit", "mean", "std", "augment"),
        *("epochs", "batch", "threads", "engine", "device", "offline"),
    )
)
# `rank` looks at some images through several backbones.
RANK = _section(
    "Options",
    (
        "backbones",
        "A,B,...",
        "as headway backbones lists them; NAME=none for random weights, NAME=FILE for those of a file",
        "tf_efficientnet_lite0,tf_efficientnet_lite1,tf_efficientnet_lite2",
    ),
    ("images", "N", "look at no more images than this", "1000"),
    ("seed", "N", "that of a later fit, whose test images are left alone", "0"),
    ("threads", "N", "processor cores to use", "all"),
    ("offline", "", "ask no hub"),
)
# `audit` looks through a network and splits as `fit` would; nothing is trained that stays.
AUDIT = tuple(
    replace(option, default="runs/<data>-audit-<number>") if option.name == "run" else option
    for option in FIT
    if option.section in ("What to learn from", "Run")
    or option.name in ("backbone", "weights", "image", "resize", "fit", "mean", "std", "threads", "engine", "offline")
    if option.name not in ("allow_bad", "map", "track")
)
_OTHERWISE_IN_TUNE: dict[str, dict[str, str]] = {
    "strategy": {
        "metavar": "probe|finetune",
        "help": "search over heads on features, or over fine-tuning",
        "default": "probe",
    },
    "views": {
        "metavar": "none|flip|N",
        "help": "let trials learn from mirrored images too, or from up to N random crops of each; one pass for each",
        "default": "flip",
    },
    "run": {"default": "runs/<data>-tune-<number>"},
}
# `tune` searches over options of `fit`; those that are typed stay as they are.
TUNE = (
    *_section(
        "Search",
        ("trials", "N", "end with so many, those of other processes counted too", "100; 20 for finetune"),
        ("metric", "log-loss|accuracy|balanced-accuracy", "what a trial is judged by", "log-loss"),
        ("budget", "TIME", "end the search after so long too, as 90s, 10m, 2h"),
        (
            "study",
            "FILE|ADDRESS",
            "where trials are kept: a file of SQLite, or postgresql://USER@HOST/NAME for several processes at once",
            "study.db in the run folder",
        ),
        ("join", "", "run trials of a search that another headway tune with the same --study began, nothing else"),
    ),
    *(
        replace(option, **_OTHERWISE_IN_TUNE.get(option.name, {}))
        for option in FIT
        if option.name
        not in ("recipe", "budget", "no_cache", "precision", "portable", "log_softmax", "checkpoint_every", "sync_bn")
    ),
)
