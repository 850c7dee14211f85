//! Which of our crates may depend on which, and what pure crates must do without.

use super::Finding;
use crate::cargo::{Package, Workspace};

struct Rule {
    package: &'static str,
    may_depend_on: &'static [&'static str],
    never: &'static [&'static str],
}

/// What brings I/O, a clock or randomness.
const IMPURE: &[&str] = &["getrandom", "hyper", "sqlx", "tokio"];

const RULES: &[Rule] = &[
    Rule {
        package: "flywheel-core",
        may_depend_on: &[],
        never: IMPURE,
    },
    Rule {
        package: "flywheel-stats",
        may_depend_on: &[],
        never: IMPURE,
    },
    Rule {
        package: "flywheel-storage",
        may_depend_on: &["flywheel-core"],
        never: &["sqlx"],
    },
    Rule {
        package: "flywheel-storage-sql",
        may_depend_on: &["flywheel-core", "flywheel-storage"],
        never: &["hyper"],
    },
    Rule {
        package: "flywheel-gateway",
        may_depend_on: &["flywheel-core", "flywheel-storage"],
        never: &["sqlx"],
    },
    Rule {
        package: "flywheel-server",
        may_depend_on: &[
            "flywheel-core",
            "flywheel-stats",
            "flywheel-storage",
            "flywheel-gateway",
        ],
        never: &["sqlx"],
    },
    Rule {
        package: "flywheel-cli",
        may_depend_on: &[
            "flywheel-core",
            "flywheel-stats",
            "flywheel-storage",
            "flywheel-storage-sql",
            "flywheel-gateway",
            "flywheel-server",
        ],
        never: &["sqlx"],
    },
    Rule {
        package: "xtask",
        // Its benches time the drawing of an arm without a server around it; it compares statistics with reference values.
        may_depend_on: &["flywheel-core", "flywheel-stats"],
        never: &[],
    },
];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let packages = workspace.packages.iter();
    packages
        .flat_map(|package| {
            let manifest = workspace.relative(&package.manifest_path);
            let messages = check_package(package).into_iter();
            messages.map(move |message| Finding::new(&*manifest, 1, message))
        })
        .collect()
}

/// Tests may use any crate, so dev-dependencies are exempt.
fn check_package(package: &Package) -> Vec<String> {
    let Some(rule) = RULES.iter().find(|rule| rule.package == package.name) else {
        return vec![format!(
            "`{}` has no rule in xtask/src/tidy/direction.rs",
            package.name
        )];
    };
    let shipped = package
        .dependencies
        .iter()
        .filter(|one| one.kind.as_deref() != Some("dev"));
    let mut messages = Vec::new();
    for name in shipped.map(|dependency| dependency.name.as_str()) {
        let is_ours = RULES.iter().any(|other| other.package == name);
        if is_ours && !rule.may_depend_on.contains(&name) {
            messages.push(format!("`{}` must not depend on `{name}`", package.name));
        }
        if rule.never.contains(&name) {
            messages.push(format!("`{}` must do without `{name}`", package.name));
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |&(name, kind): &(&str, Option<&str>)| Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
        };
        Package {
            name: name.to_owned(),
            version: String::new(),
            license: None,
            dependencies: dependencies.iter().map(dependency).collect(),
            manifest_path: "Cargo.toml".into(),
        }
    }

    #[test]
    fn dependencies_point_one_way() {
        let check = |name, dependencies: &[_]| check_package(&package(name, dependencies)).len();
        assert_eq!(
            check(
                "flywheel-server",
                &[("flywheel-gateway", None), ("tokio", None)]
            ),
            0
        );
        assert_eq!(
            check("flywheel-server", &[("flywheel-storage-sql", None)]),
            1
        );
        assert_eq!(
            check("flywheel-server", &[("flywheel-storage-sql", Some("dev"))]),
            0
        );
        assert_eq!(
            check(
                "flywheel-core",
                &[("tokio", None), ("getrandom", Some("build"))]
            ),
            2
        );
        assert_eq!(check("flywheel-surprise", &[]), 1);
    }
}
