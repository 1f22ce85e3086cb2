"""Uses llama-index's NVIDIA embeddings as an application does; run by test_clients_apart.py in an environment apart.

Takes the address of the API and a model; prints what it got as JSON.
"""

import asyncio
import json
import sys

from llama_index.embeddings.nvidia import NVIDIAEmbedding

url, model = sys.argv[1:]
client = NVIDIAEmbedding(base_url=url, model=model, api_key="none", truncate="END")
found = {
    "models": [found.id for found in client.available_models],
    "query": client.get_query_embedding("hi"),
    "texts": client.get_text_embedding_batch(["a", "bc"]),
    "later": asyncio.run(client.aget_query_embedding("hi")),
}
print(json.dumps(found))
