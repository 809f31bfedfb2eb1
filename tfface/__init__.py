"""tfface: how good a face recognition model is, how it is fooled, how it is made harder to fool.

Names are imported when they are first used: `import tfface` imports neither TensorFlow nor Keras.
"""

from tfface.utils import registry, tensorflow_logs

__version__ = "0.1.0"

_NAMES = {
    "UserError": "tfface.errors",
    "attack": "tfface.robustness.attack",
    "augment": "tfface.evaluation.augment",
    "benchmark_robustness": "tfface.robustness.benchmark",
    "calibrate": "tfface.evaluation.calibrate",
    "certify": "tfface.robustness.certify",
    "check_golden": "tfface.artifacts.golden",
    "check_weights": "tfface.models._inventory",
    "criteria": "tfface.attacks._criteria:*",
    "describe_dataset": "tfface.data.catalogue",
    "distill": "tfface.artifacts.distill",
    "doctor": "tfface.models._inventory",
    "embed": "tfface.evaluation.embeddings",
    "evaluate": "tfface.evaluation.evaluate",
    "export": "tfface.artifacts.export",
    "fetch_weights": "tfface.models._inventory",
    "list_datasets": "tfface.data.catalogue",
    "list_defenses": "tfface.defenses._defense",
    "list_presets": "tfface.models._inventory",
    "load_dataset": "tfface.data.catalogue",
    "load_embedder": "tfface.models._embedder",
    "mine": "tfface.evaluation.mining",
    "prepare_dataset": "tfface.data.catalogue",
    "probe": "tfface.evaluation.probe",
    "reproduce": "tfface.paper.reproduce",
    "retrain": "tfface.paper.retrain",
    "verify": "tfface.evaluation.verify",
    "wrap": "tfface.models._files",
    "write_report": "tfface.report.page",
}
_MODULES = ("attacks", "data", "defenses", "errors", "metrics", "models", "serving")

__all__ = ["__version__", *_NAMES, *_MODULES]
tensorflow_logs.install()
__getattr__ = registry.attach(__name__, _NAMES, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)
