import type { Family } from "./family.ts"
import { llama } from "./llama.ts"

/** Every supported family, by `model_type`. */
export const families: Readonly<Record<string, Family>> = { [llama.modelType]: llama }
