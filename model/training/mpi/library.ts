/**
 * Open MPI's library, as far as a training needs it, through Deno's foreign functions.
 *
 * Handles such as `MPI_COMM_WORLD` are addresses of symbols in Open MPI, so another MPI's library is refused. Nothing is loaded before
 * {@linkcode openLibrary} is called.
 *
 * @module
 */

/** MPI can't be used: no library, or not Open MPI's. */
export class MpiError extends Error {
  /** Name of the class, as printed. */
  override name = "MpiError";
}

const pointer = "pointer" as const;
const buffer = "buffer" as const;
const i32 = "i32" as const;

const SYMBOLS = {
  ompi_mpi_comm_world: { type: pointer },
  ompi_mpi_byte: { type: pointer },
  MPI_Init_thread: { parameters: [pointer, pointer, i32, buffer], result: i32 },
  MPI_Comm_rank: { parameters: [pointer, buffer], result: i32 },
  MPI_Comm_size: { parameters: [pointer, buffer], result: i32 },
  MPI_Isend: { parameters: [buffer, i32, pointer, i32, i32, pointer, buffer], result: i32 },
  MPI_Irecv: { parameters: [buffer, i32, pointer, i32, i32, pointer, buffer], result: i32 },
  MPI_Ibcast: { parameters: [buffer, i32, pointer, i32, pointer, buffer], result: i32 },
  MPI_Test: { parameters: [buffer, buffer, pointer], result: i32 },
  MPI_Abort: { parameters: [pointer, i32], result: i32 },
  MPI_Finalize: { parameters: [], result: i32 },
} as const;

/** Open MPI's functions and handles. */
export type MpiLibrary = Deno.DynamicLibrary<typeof SYMBOLS>;

/** Names of the library: Debian's packages for running have the first, those for developing both. */
export const MPI_LIBRARIES: readonly string[] = ["libmpi.so.40", "libmpi.so"];

/**
 * Loads Open MPI's library.
 *
 * @param names Files to look for, in order.
 * @throws {MpiError} If none is there, or the one that is there is not Open MPI's.
 */
export function openLibrary(names: readonly string[] = MPI_LIBRARIES): MpiLibrary {
  const problems: string[] = [];
  for (const name of names) {
    try {
      return Deno.dlopen(name, SYMBOLS);
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  const other = problems.find((problem) => /ompi_|MPI_/.test(problem));
  throw new MpiError(
    other
      ? `${names.join(" or ")} is not Open MPI's library (${other}); expected Open MPI 4`
      : `Open MPI is not installed, there is no ${names.join(" and no ")}: ` +
        "`apt-get install openmpi-bin libopenmpi-dev` on Debian",
  );
}
