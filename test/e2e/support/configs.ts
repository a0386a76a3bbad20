/** A reward that is graded, so that every step has something to learn: the share of sevens. */
export const sevens = `import { defineReward } from "@rlpt/core"

export default defineReward({
  name: "sevens",
  score: ({ completion }) => [...completion].filter((character) => character === "7").length / 12,
})
`

/** Rows whose prompts have from 2 to 22 tokens. */
export const rows = (count: number): string =>
  Array.from({ length: count }, (_, i) => {
    const prompt = `${i}${"+1".repeat((i * 7) % 11)}=`
    return `${JSON.stringify({ prompt, completion: String(i), answer: i })}\n`
  }).join("")

const shared = `
model: ./tiny
task: { use: jsonl, options: { train: ./train.jsonl, eval: ./eval.jsonl } }
rewards: [./sevens.ts]
prompts_per_step: 6
max_completion_length: 12
steps_per_generation: 2
num_iterations: 2
micro_batch_size: 5
learning_rate: 3e-3
temperature: 0.9
top_p: 0.95
entropy_coef: 0.01
max_steps: 10
eval_steps: 4
eval_size: 5
save_steps: 2
log_completions_steps: 3
`

/** Every part of the machine at once, small: KL, clipping over several updates, mini-batches and micro-batches. */
export const configs = {
  grpo: `${shared}
algorithm: grpo
num_generations: 4
beta: 0.05
`,
  ppo: `${shared}
algorithm: ppo
beta: 0.02
critic_learning_rate: 3e-3
whiten_rewards: true
missing_eos_penalty: 0.1
`,
} as const

/** The files that the configurations name, but for the model. */
export const data = { "sevens.ts": sevens, "train.jsonl": rows(40), "eval.jsonl": rows(8) }
