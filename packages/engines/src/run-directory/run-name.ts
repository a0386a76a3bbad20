/** Two-word names for runs, such as quiet-otter: easy to say, to type and to tell apart. */

// Both lists have 64 words, so that an index splits into two fields of six bits.
const adjectives = (
  "amber ancient bold brave bright brisk calm candid clever cosmic crisp curious dapper daring deft distant eager early " +
  "earnest fabled fair fearless fleet fond gentle gilded golden grand happy hardy hidden honest humble jolly keen kind " +
  "lively loyal lucid lucky mellow merry mighty modest nimble noble patient placid polite proud quick quiet rapid serene " +
  "silent silver sleek steady sunny swift tidy vivid warm wise"
).split(" ")

const animals = (
  "badger bear beaver bison bobcat condor cougar coyote crane cricket curlew deer dolphin dove eagle egret elk falcon ferret " +
  "finch fox gecko gibbon goose grouse hare hawk heron ibex jackal jay kestrel kiwi koala lark lemur leopard linnet lynx " +
  "magpie marten mole moose newt ocelot oriole osprey otter owl panda pelican petrel pika plover puffin quail raven robin " +
  "salmon seal stork swan tern wren"
).split(" ")

const count = adjectives.length * animals.length
// Odd, hence coprime with 4096: the walk visits every pair once before it repeats.
const stride = 1663

/** FNV-1a, 32 bits. */
const hash = (text: string): number => {
  let state = 0x811c9dc5
  for (const byte of new TextEncoder().encode(text)) state = Math.imul(state ^ byte, 0x01000193) >>> 0
  return state
}

/**
 * The names to try for a run whose configuration is `key`, in order: the same configuration always asks for the same
 * names, and the first free one is taken. After all 4096 pairs come quiet-otter-2 and so on, without end.
 */
export function* runNames(key: string): Generator<string, never> {
  const start = hash(key) % count
  for (let attempt = 0; ; attempt++) {
    const index = (start + attempt * stride) % count
    const name = `${adjectives[index % 64]}-${animals[Math.floor(index / 64)]}`
    const round = Math.floor(attempt / count)
    yield round === 0 ? name : `${name}-${round + 1}`
  }
}

/** Why `name` cannot be the name of a directory on every system, or nothing if it can. */
export const runNameProblem = (name: string): string | undefined =>
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)
    ? undefined
    : `"${name}" cannot name a run: use letters, digits, ".", "_" and "-", starting with a letter or digit, at most 100`
