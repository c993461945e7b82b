pub struct CaseReport;
pub fn run_cases() {}
