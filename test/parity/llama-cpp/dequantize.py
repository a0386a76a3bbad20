"""Writes a GGUF file with all tensors as F32, by the `gguf` package: dequantize.py model.gguf model-f32.gguf"""

import sys

import gguf
from gguf.quants import dequantize

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
for name, field in reader.fields.items():
    if name.startswith("GGUF.") or name == "general.architecture":
        continue
    kind, *parts = field.types
    writer.add_key_value(name, field.contents(), kind, sub_type=parts[0] if parts else None)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
