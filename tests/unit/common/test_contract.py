from google.protobuf import text_format

from services.common.contract import Contract, Tensor, of_config
from services.common.triton import model_config_pb2


def test_a_config_declares_its_contract_in_kserve_terms():
    text = """
    input { name: "text" data_type: TYPE_STRING dims: [ 1 ] }
    output { name: "ids" data_type: TYPE_INT64 dims: [ -1, 3 ] }
    """
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert of_config(config) == Contract({"text": Tensor("BYTES", (1,))}, {"ids": Tensor("INT64", (-1, 3))})
