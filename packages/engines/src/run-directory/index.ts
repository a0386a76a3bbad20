export { RunDirectoryError } from "./error.ts"
export { checkNewName, createRun, openRun, writeConfig, type CreateRun, type RunDirectory } from "./run-directory.ts"
