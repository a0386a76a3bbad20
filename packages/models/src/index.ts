export { parseConfig, type ConfigOptions, type DecoderConfig } from "./config.ts"
export {
  createDecoder,
  type Decoder,
  type DecoderOptions,
  type KvCache,
  type PackedTokens,
  type PassOptions,
} from "./decoder.ts"
export { ModelError, type ModelFault } from "./errors.ts"
export type { Head } from "./families/family.ts"
export type { ModelFiles } from "./files.ts"
export type { HubOptions, HubProgress } from "./hub/options.ts"
export { isModelReference, pinnedReference, repositoryOf } from "./hub/reference.ts"
export { resolveModel } from "./hub/resolve.ts"
export { loadModel, type LoadOptions, type Model } from "./load.ts"
export { frozenCopy, mergeAdapter, withoutAdapter } from "./lora/merge.ts"
export type { LoraOptions } from "./lora/options.ts"
export { exportAdapter, type ExportAdapterOptions } from "./lora/save.ts"
export { packSequences, type PackedArrays } from "./packing.ts"
export {
  countParameters,
  decoderParameters,
  type Initializer,
  type ParameterPart,
  type Parameters,
  type ParameterSpec,
} from "./parameters.ts"
export type { WeightDType } from "./precision.ts"
export type { RopeConfig } from "./rope.ts"
export { exportModel, saveModel, type ExportOptions } from "./save.ts"
export type { AttentionConfig, FeedForwardConfig, LayerConfig, NormConfig, Sizes, Structure } from "./structure.ts"
export type { Trainable } from "./trainable.ts"
export { withHead } from "./with-head.ts"
export { characterTokenizer } from "./tokenizer/character.ts"
export type { ChatMessage, ChatOptions } from "./tokenizer/chat-template.ts"
export type { EncodedChat } from "./tokenizer/chat.ts"
export { createTokenizer, type ModelTokenizer, type TokenizerFiles } from "./tokenizer/tokenizer.ts"
