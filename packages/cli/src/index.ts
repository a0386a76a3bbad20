import type { SftConfig, TrainConfig } from "./config/schema.ts"

/** What a configuration file of `rlpt train` may say. */
export type TrainConfigInput = typeof TrainConfig.Encoded

/** What a configuration file of `rlpt sft` may say. */
export type SftConfigInput = typeof SftConfig.Encoded

/**
 * The default export of an `rlpt.config.ts`: gives the editor the types of all keys.
 *
 * ```ts
 * export default defineConfig({ task: "arithmetic", rewards: ["arithmetic"], algorithm: "grpo" })
 * ```
 */
export const defineConfig = (config: TrainConfigInput): TrainConfigInput => config

/** {@link defineConfig} for `rlpt sft`. */
export const defineSftConfig = (config: SftConfigInput): SftConfigInput => config
