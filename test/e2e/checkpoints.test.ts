import { spawnSync } from "node:child_process"
import { cpSync, readFileSync, truncateSync, writeFileSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { configs, data } from "./support/configs.ts"
import { bin, outcome, Project, Run } from "./support/project.ts"

const project = new Project({ ...data, "rlpt.config.yaml": configs.ppo })
const whole = project.run("whole")
beforeAll(async () => {
  project.writeModel("tiny")
  expect((await project.rlpt("train", "--run-name", "whole")).code).toBe(0)
})
afterAll(() => project.dispose())

describe("a corrupted newest checkpoint", () => {
  /** A copy of the whole run, which has checkpoints of steps 6, 8 and 10. */
  const copy = (name: string): Run => {
    cpSync(whole.path, project.path("runs", name), { recursive: true })
    return project.run(name)
  }
  const flip = (file: string) => {
    const bytes = readFileSync(file)
    bytes[bytes.length >> 1]! ^= 1
    writeFileSync(file, bytes)
  }

  test("is told of, the one before it is taken, and the run ends as ever", async () => {
    const run = copy("flipped")
    flip(run.file("checkpoints/step-10/critic/weights.safetensors"))
    const { code, errors, output } = await project.rlpt("train", "--resume", "flipped")
    expect(errors).toMatch(
      /^warning: Checkpoint of step 10 is corrupt, trying an older one: \S+step-10\/critic\/weights\.safetensors is damaged: its SHA-256 is not the one in the manifest; [^\n]+\n$/,
    )
    expect(output).toContain("going on after step 8\n")
    expect(code).toBe(0)
    expect(run.fingerprint).toEqual(whole.fingerprint)
  })

  test("does not count when it is cut short", async () => {
    const run = copy("short")
    truncateSync(run.file("checkpoints/step-10/policy/optimizer.safetensors"), 1000)
    const { code, output } = await project.rlpt("train", "--resume", "short")
    expect(output).toContain("going on after step 8\n")
    expect(code).toBe(0)
    expect(run.fingerprint).toEqual(whole.fingerprint)
  })

  test("is the end when all of them are: nothing begins again by itself", async () => {
    const run = copy("ruined")
    for (const step of [6, 8, 10]) flip(run.file(`checkpoints/step-${step}/policy/weights.safetensors`))
    const { code, errors } = await project.rlpt("train", "--resume", "ruined")
    expect(errors.match(/^warning: Checkpoint of step/gm)).toHaveLength(3)
    expect(errors).toContain(
      "error: None of the checkpoints (steps 6, 8, 10) is sound. Delete them to start from step 0.\n",
    )
    expect(code).toBe(1)
    expect(run.lastStep).toBe(10)
  })
})

// A file system of a few hundred kilobytes, in a namespace of its own: needs no root where users may make namespaces.
const unshare = ["unshare", "--user", "--map-root-user", "--mount"] as const
const canMount = spawnSync(unshare[0], [...unshare.slice(1), "sh", "-c", "mount -t tmpfs none /mnt"]).status === 0
if (!canMount) process.stderr.write("skipped: no file system of one's own can be mounted here to be filled up\n")

describe.skipIf(!canMount)("a full disk", () => {
  /** Trains on a file system of `kilobytes`, then with room enough, and gives what was said each time and all bytes. */
  const fill = async (name: string, kilobytes: number) => {
    project.write({ [`runs/${name}/.keep`]: "" })
    const rlpt = `"${process.execPath}" "${bin}" train`
    const script = `
      mount -t tmpfs -o size=${kilobytes}k none runs
      ${rlpt} --run-name ${name} --set saveTotalLimit=2 --set logCompletionsSteps=0; echo "exit $?"
      find runs | sort | sed "s/^/has /"
      mount -o remount,size=64m runs
      ${rlpt} --resume ${name}; echo "exit $?"
      mkdir -p kept && cp -r runs/${name} kept/`
    const { errors, output } = await outcome(project.spawnWith({}, ...unshare, "sh", "-c", script))
    const [full = "", mended = ""] = output.split("has runs\n")
    return { errors, full, kept: mended.match(/^has .+$/gm) ?? [], mended }
  }

  test("while checkpointing ends the run with one error; the checkpoint before is whole, and resuming ends as ever", async () => {
    const { errors, full, kept, mended } = await fill("small", 1200)
    expect(errors).toMatch(
      /^run small stopped; go on by: rlpt train --resume small\nerror: no space left while writing the checkpoint of step \d+ \(0\.\d MB\) in runs\/small\/checkpoints; free some, earlier checkpoints are untouched\n$/,
    )
    expect(full).toContain("\nexit 1\n")
    expect(kept.filter((line) => /\.tmp|\.new|\.old/.test(line))).toEqual([])
    expect(mended).toMatch(/^going on after step \d+$/m)
    expect(mended).toContain("\nexit 0\n")
    const unlogged = Object.entries(whole.fingerprint).filter(([file]) => !file.startsWith("samples/"))
    expect(new Run(project.path("kept/small")).fingerprint).toEqual(Object.fromEntries(unlogged))
  })
})
