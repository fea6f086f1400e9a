use std::process::ExitCode;
pub fn run(_args: &crate::cli::DemoArgs) -> ExitCode {
    crate::exit::USAGE.into()
}
