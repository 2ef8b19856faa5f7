"""The object that lmms-eval finds under the entry point ``lmms_eval.models``.

It is read at every start of lmms-eval, also for other models, so it does not import the model.
"""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest("accm", simple_class_path="llava.lmms.model.AccmModel")
