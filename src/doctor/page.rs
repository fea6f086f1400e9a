//! The report, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Finding, Findings, Verdict};

pub fn json(findings: &Findings) -> Value {
    let worst = findings.0.iter().map(|f| f.code.verdict()).max();
    json!({
        "verdict": worst.unwrap_or(Verdict::Pass).as_str(),
        "exit": findings.exit(),
        "findings": findings.0.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn entry(finding: &Finding) -> Value {
    let mut entry = json!({
        "check": finding.code.check(),
        "code": finding.code.as_str(),
        "verdict": finding.code.verdict().as_str(),
        "message": finding.message,
    });
    if let Some(upstream) = &finding.upstream {
        entry["upstream"] = upstream.as_str().into();
    }
    if let Some(next) = &finding.next {
        entry["next"] = next.as_str().into();
    }
    if !finding.details.is_empty() {
        entry["details"] = finding.details.as_slice().into();
    }
    entry
}

pub fn human(findings: &Findings) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, findings);
    out
}

fn write(out: &mut String, findings: &Findings) -> std::fmt::Result {
    let mut part = None;
    for finding in &findings.0 {
        if part != Some(&finding.upstream) {
            match &finding.upstream {
                None => writeln!(out, "This host")?,
                Some(name) => writeln!(out, "\nUpstream {name}")?,
            }
            part = Some(&finding.upstream);
        }
        write_finding(out, finding)?;
    }
    let count = |verdict| {
        let of_it = findings.0.iter().filter(|f| f.code.verdict() == verdict);
        of_it.count()
    };
    writeln!(
        out,
        "\n{} failed, {} with a warning, {} passed",
        count(Verdict::Fail),
        count(Verdict::Warn),
        count(Verdict::Pass)
    )
}

fn write_finding(out: &mut String, finding: &Finding) -> std::fmt::Result {
    let (check, verdict) = (finding.code.check(), finding.code.verdict());
    let mark = match verdict {
        Verdict::Pass => "ok  ",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    write!(out, "  {mark}  {check:<13}  {}", finding.message)?;
    if verdict == Verdict::Pass {
        writeln!(out)?;
    } else {
        writeln!(out, " [{}]", finding.code.as_str())?;
    }
    for detail in &finding.details {
        writeln!(out, "{:23}{detail}", "")?;
    }
    if let Some(next) = &finding.next {
        writeln!(out, "{:21}> {next}", "")?;
    }
    Ok(())
}
