"""Writes a Llama in a Hugging Face directory as a GGUF file of F32 weights: gguf_of.py <directory> <file.gguf>."""
import json
import pathlib
import sys

import gguf
import numpy

directory, target = pathlib.Path(sys.argv[1]), sys.argv[2]
config = json.loads((directory / "config.json").read_text())


def tensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = numpy.frombuffer(data, numpy.float32, (end - begin) // 4, 8 + size + begin)
            yield name, values.reshape(entry["shape"])


def interleaved(weight, heads):
    """Rows from the half-rotation of transformers to the pairs that llama.cpp rotates."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
writer = gguf.GGUFWriter(target, "llama")
writer.add_block_count(config["num_hidden_layers"])
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(kv_heads)
writer.add_rope_dimension_count(config["head_dim"])
writer.add_rope_freq_base(config["rope_theta"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_vocab_size(config["vocab_size"])
writer.add_file_type(gguf.LlamaFileType.ALL_F32)

# A vocabulary of the right size; no text is read or written with it.
control, byte, normal = gguf.TokenType.CONTROL, gguf.TokenType.BYTE, gguf.TokenType.NORMAL
words = [("<s>", control), ("</s>", control), ("<unk>", gguf.TokenType.UNKNOWN)]
words += [(f"<0x{i:02X}>", byte) for i in range(256)]
words += [(f"word{i}", normal) for i in range(len(words), config["vocab_size"])]
writer.add_tokenizer_model("llama")
writer.add_token_list([word for word, _ in words])
writer.add_token_scores([0.0] * len(words))
writer.add_token_types([kind for _, kind in words])
writer.add_bos_token_id(0)
writer.add_eos_token_id(1)
writer.add_unk_token_id(2)

names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
for name, weight in tensors(directory / "model.safetensors"):
    if name.endswith("q_proj.weight"):
        weight = interleaved(weight, heads)
    if name.endswith("k_proj.weight"):
        weight = interleaved(weight, kv_heads)
    writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), numpy.ascontiguousarray(weight))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
