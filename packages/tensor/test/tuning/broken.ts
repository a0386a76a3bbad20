import type { Candidate } from "../../src/kernels/matmul/choice.ts"

/** `candidate` with a mistake: the body of each of its kernels is replaced. */
export const broken = (candidate: Candidate, replace: (body: string) => string, id = candidate.id): Candidate => ({
  ...candidate,
  id,
  launch: (problem) => {
    const { kernel, ...rest } = candidate.launch(problem)
    return { ...rest, kernel: { ...kernel, name: `broken ${kernel.name}`, body: () => replace(kernel.body()) } }
  },
})

/** The last step along k is left out. */
export const oneStepShort = (body: string): string => body.replace("k < p.K", "k < p.K - 1u")
