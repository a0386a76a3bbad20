"""Whether transformers loads the model/ of a run and says what rlpt says.

    python check_transformers.py runs/quiet-otter/model "3+4=" "24+60="

Needs torch and transformers, so it is run by hand and not in CI. Loads the directory with AutoModelForCausalLM and
AutoTokenizer, demands that no weight is missing, left over or re-initialised, and compares greedy completions of the
prompts with those of `rlpt generate --greedy`.
"""

import pathlib
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

RLPT = pathlib.Path(__file__).resolve().parents[2] / "packages/cli/src/bin.ts"
LENGTH = 24


def rlpt(model: str, prompt: str) -> str:
    command = ["bun", str(RLPT), "generate", "--model", model, "--greedy", "--max-completion-length", str(LENGTH), prompt]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.removesuffix("\n")


def main(directory: str, prompts: list[str]) -> None:
    model, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        sys.exit(f"the weights do not fit: {wrong}")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    print(f"{type(model).__name__}, {model.num_parameters():,} parameters, {model.dtype}; {type(tokenizer).__name__}")
    failures = 0
    for prompt in prompts:
        tokens = tokenizer(prompt, return_tensors="pt").input_ids
        room = min(LENGTH, model.config.max_position_embeddings - tokens.shape[1])
        with torch.no_grad():
            whole = model.generate(tokens, do_sample=False, max_new_tokens=room)[0]
        before = tokenizer.decode(tokens[0], skip_special_tokens=True)
        theirs = tokenizer.decode(whole, skip_special_tokens=True).removeprefix(before)
        ours = rlpt(directory, prompt)
        if theirs == ours:
            print(f"equal      {prompt!r} -> {theirs!r}")
        else:
            failures += 1
            print(f"DIFFERENT  {prompt!r} -> {theirs!r}, but rlpt says {ours!r}")
    sys.exit(1 if failures else 0)


main(sys.argv[1], sys.argv[2:])
