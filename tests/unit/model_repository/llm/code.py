"""The code of the language models' folders: the version folder "1" is not a name that an import statement takes."""

import importlib
from types import ModuleType

ENGINE, SCORER = "smollm2_135m_instruct", "smollm2_135m_instruct_score"


def code(module: str, model: str = ENGINE) -> ModuleType:
    return importlib.import_module(f"model_repository.llm.{model}.1.{module}")
