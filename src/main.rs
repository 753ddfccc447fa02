//! The program: everything is in the library.

fn main() -> std::process::ExitCode {
    storage_guard::cli::main()
}
