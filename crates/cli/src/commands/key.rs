//! `flywheel key`: who may use the server.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{Context, Outcome};
use crate::client::Target;
use crate::output::record::Record;
use crate::output::table::Table;
use crate::printer::Style;

/// Make, list and revoke keys
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it, this once
    Create(CreateArgs),
    /// List keys; the keys themselves are not kept
    List,
    /// Revoke a key
    Revoke {
        /// The key's name or its id, as `flywheel key list` shows them
        // Not `key`: that is what the global option is called by which a command finds its own key.
        #[arg(value_name = "NAME|ID")]
        revoked: String,
    },
}

/// What a new key is for.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What the key is for, for people
    name: String,
    /// What it may do
    #[arg(long, value_enum)]
    role: RoleChoice,
    /// An app it is limited to; may be given several times
    #[arg(long = "app", value_name = "APP")]
    apps: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleChoice {
    /// Everything, keys included
    Admin,
    /// Registers, deploys, rolls back and runs experiments
    Editor,
    /// Calls apps, sends feedback and logs calls; reads nothing back
    App,
    /// Reads
    Viewer,
}

impl RoleChoice {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::App => "app",
            Self::Viewer => "viewer",
        }
    }
}

impl KeyCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Create(args) => create(args, context).await,
            Self::List => list(context).await,
            Self::Revoke { revoked } => {
                let target = Target::api("keys").at(&revoked);
                let answer = context.client.delete(&target).await?;
                context.printer.show(&answer, |_| {
                    context.printer.note(&format!(
                        "revoked key {revoked}: requests with it are refused from now on"
                    ));
                    Ok(())
                })
            }
        }
    }
}

async fn create(args: CreateArgs, context: &Context<'_>) -> Outcome {
    // It may be meant to create the app.
    for app in &args.apps {
        context.explain_nothing(Some(app)).await?;
    }
    let mut body = json!({"name": args.name, "role": args.role.as_str()});
    if !args.apps.is_empty() {
        body["apps"] = args.apps.into();
    }
    let answer = context.client.post(&Target::api("keys"), &body).await?;
    context.printer.show(&answer, |key| {
        // Alone on stdout, so that a script can take it from there.
        context.printer.line(Style::Plain, key.text("key"))?;
        let (name, role, id) = (key.text("name"), key.text("role"), key.shown("id"));
        context
            .printer
            .note(&format!("made key `{name}` with role {role} (id {id})"));
        context
            .printer
            .hint("keep it now, it is not shown again; commands take it from FLYWHEEL_KEY");
        Ok(())
    })
}

async fn list(context: &Context<'_>) -> Outcome {
    let answer = context.client.get(&Target::api("keys")).await?;
    context.printer.show(&answer, |answer| {
        let mut table = Table::new(&[
            "id",
            "name",
            "role",
            "apps",
            "created",
            "last used",
            "revoked",
        ])
        .giving_up(&["id", "created", "last used"]);
        for key in answer.items("items") {
            table.row([
                key.shown("id").into(),
                key.text("name").into(),
                key.text("role").into(),
                apps(key).into(),
                context.ago(key, "created_at"),
                context.ago(key, "last_used_at"),
                context.ago(key, "revoked_at"),
            ]);
        }
        context.show_table(
            &table,
            "no keys yet; the server answers on the loopback address only",
        )?;
        if table.is_empty() {
            context
                .printer
                .hint("make the first with `flywheel key create NAME --role admin`");
        }
        Ok(())
    })
}

fn apps(key: Record<'_>) -> String {
    let apps = key.joined("apps");
    if apps.is_empty() {
        "all".to_owned()
    } else {
        apps
    }
}
