"""What lmms-eval finds under the entry point ``lmms_eval.models``.

Read at every start of lmms-eval, also for other models: so the model's own imports wait.
"""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest("accm", simple_class_path="llava.lmms.model.AccmModel")
