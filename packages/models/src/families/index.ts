import type { Family } from "./family.ts"
import { gemma2 } from "./gemma2.ts"
import { gemma3 } from "./gemma3.ts"
import { gpt2 } from "./gpt2.ts"
import { llama } from "./llama.ts"
import { mistral } from "./mistral.ts"
import { phi3 } from "./phi3.ts"
import { qwen2 } from "./qwen2.ts"
import { qwen3 } from "./qwen3.ts"
import { smollm3 } from "./smollm3.ts"

const all: ReadonlyArray<Family> = [llama, mistral, qwen2, qwen3, gemma2, gemma3, smollm3, phi3, gpt2]

/** Every supported family, by `model_type`. */
export const families: Readonly<Record<string, Family>> = Object.fromEntries(
  all.map((family) => [family.modelType, family]),
)
