//! `flywheel stats`: the calculator, which asks no server.

use crate::run::{Run, flywheel};

fn stats(arguments: &[&str]) -> Run {
    flywheel(&[&["stats"], arguments].concat())
}

fn says(arguments: &[&str], parts: &[&str]) {
    let run = stats(arguments);
    assert_eq!(run.code, Some(0), "{}", run.transcript());
    for part in parts {
        assert!(
            run.stdout.contains(part),
            "`{part}` in {}",
            run.transcript()
        );
    }
}

fn refuses(arguments: &[&str], part: &str) {
    let run = stats(arguments);
    assert!(matches!(run.code, Some(1 | 2)), "{}", run.transcript());
    assert!(
        run.stderr.contains(part),
        "`{part}` in {}",
        run.transcript()
    );
}

/// The values of the design, which others computed too: "5% on 60%" is two plans.
#[test]
fn sample_sizes() {
    says(
        &["size", "--base", "60%", "--mde", "5pt"],
        &[
            "1,471 users per arm",
            "60% to 65%",
            "+8.333% of it",
            "at most 4,767",
        ],
    );
    says(
        &["size", "--base", "60%", "--mde", "5%"],
        &["4,129 users per arm", "60% to 63%"],
    );
    says(
        &["size", "--base", "60%", "--mde=-5pt"],
        &["1,534 users per arm"],
    );
    says(
        &["size", "--sd", "1.2", "--difference", "0.34"],
        &["users per arm"],
    );
    says(
        &[
            "size",
            "--base",
            "60%",
            "--mde",
            "5pt",
            "--users-per-day",
            "500",
        ],
        &["at most 14 days"],
    );
}

#[test]
fn plans_without_a_basis_are_refused() {
    refuses(
        &["size", "--base", "60%", "--mde", "5"],
        "say points or percent",
    );
    refuses(&["size", "--base", "60%"], "--mde");
    refuses(&["size", "--sd", "1"], "--difference");
    refuses(
        &["size", "--base", "60%", "--mde", "0pt"],
        "the planned difference is zero",
    );
    refuses(
        &["size", "--base", "60%", "--mde", "50pt"],
        "the rate to be detected",
    );
    refuses(&["rates", "5/4", "1/2"], "expected successes of users");
    refuses(
        &["ranks", "1,2,3", "1,2"],
        "write 0 for a grade that nobody gave",
    );
    refuses(
        &["split", "1,2", "--weights", "1,1,1"],
        "2 arms have counts and 3 have weights",
    );
    refuses(&["canary", "1,2"], "a canary has three counts");
    refuses(&["means"], "<N,MEAN,SD>");
}

#[test]
fn comparisons() {
    says(
        &["rates", "840/1400", "915/1400", "--planned", "2800"],
        &[
            "60% (840 of 1400;",
            "+5.357 points",
            "by Pearson's χ²",
            "looked at any time",
        ],
    );
    says(
        &["rates", "0/30", "5/30"],
        &[
            "by Fisher's exact test",
            "none: fewer than 10 events",
            "No verdict yet",
        ],
    );
    says(
        &["means", "1400,12.3,4.5", "1400,13.5,4.4"],
        &["The treatment is higher: +1.2"],
    );
    says(
        &["ranks", "6,12,24,36,22", "24,26,26,16,8"],
        &[
            "The treatment is graded worse",
            "Brunner–Munzel",
            "Mann–Whitney",
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.csv");
    let mut lines = String::from("arm,user,numerator,denominator\n");
    for user in 0..200 {
        for request in 0..=user % 3 {
            let success = usize::from((user + request) % 4 != 0);
            lines.push_str(&format!("a,a{user},{success},1\nb,b{user},1,1\n"));
        }
    }
    std::fs::write(&file, lines).unwrap();
    says(
        &["ratios", "--csv", file.to_str().unwrap()],
        &["a: 0.7494", "b: 1 (200 users)", "delta method over users"],
    );
}

#[test]
fn checks() {
    says(
        &["split", "5300,4700"],
        &[
            "Invalid: the traffic was not split as planned",
            "5000 / 5000",
        ],
    );
    says(
        &["split", "900,100", "--weights", "9,1"],
        &["The split is as planned"],
    );
    says(&["canary", "6,22,56"], &["Alert: the new version loses"]);
    says(
        &["canary", "120,40,40", "--closed"],
        &["Promote: the new version wins"],
    );
    says(
        &["split", "5210,4790"],
        &["Suspicious: invalid if this is the only look"],
    );
    let run = flywheel(&["--json", "stats", "split", "5300,4700"]);
    assert_eq!(run.json()["broken"], true);
}
