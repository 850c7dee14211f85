//! What a Jinja template names: minijinja looks filters, tests and functions up only when it comes to them, which is in
//! a call of a user. Here they are looked up when the template is compiled.

use std::borrow::Cow;
use std::collections::BTreeSet;

use minijinja::machinery::ast::{Call, CallArg, Expr, Macro, Stmt};
use minijinja::machinery::{Span, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

/// A name that the template uses and nothing stands behind, or that is called in a way it cannot be.
pub(super) struct Mistake {
    /// The byte it begins at.
    pub(super) at: usize,
    /// What is wrong.
    pub(super) problem: String,
}

/// The first mistake in a template that is known to parse.
pub(super) fn first_mistake(
    environment: &Environment<'_>,
    syntax: SyntaxConfig,
    source: &str,
) -> Option<Mistake> {
    let mut names = Names::default();
    names.statement(&parse(source, "", syntax).ok()?);
    let mut mistakes: Vec<_> = names
        .uses
        .iter()
        .filter_map(|used| {
            let problem = used.problem(environment, &names.assigned)?;
            Some(Mistake {
                at: used.at,
                problem,
            })
        })
        .collect();
    mistakes.sort_by_key(|mistake| mistake.at);
    mistakes.into_iter().next()
}

/// What is used in a template, and what it defines itself.
#[derive(Default)]
struct Names<'a> {
    uses: Vec<Use<'a>>,
    assigned: BTreeSet<&'a str>,
}

struct Use<'a> {
    kind: Kind<'a>,
    name: Cow<'a, str>,
    at: usize,
    /// How many arguments it gets, if that can be seen: a filter's and a test's first is the value they stand behind.
    arguments: Option<usize>,
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    Filter,
    Test,
    Function,
    /// On this variable, or on a constant.
    Method(Option<&'a str>),
}

impl Use<'_> {
    fn problem(&self, environment: &Environment<'_>, assigned: &BTreeSet<&str>) -> Option<String> {
        let name = &*self.name;
        match self.kind {
            Kind::Filter => self.probe("filter", |arguments| {
                let mut state = environment.empty_state();
                state.apply_filter(name, arguments).err()
            }),
            Kind::Test => self.probe("test", |arguments| {
                let mut state = environment.empty_state();
                state.perform_test(name, arguments).err()
            }),
            // What the template defines may be a macro; JSON variables can never be called.
            Kind::Function if assigned.contains(name) => None,
            Kind::Function => {
                let global = environment.globals().find(|(global, _)| *global == name);
                self.probe("function", |arguments| match &global {
                    None => Some(Error::from(ErrorKind::UnknownFunction)),
                    Some((_, function)) => function
                        .call(&mut environment.empty_state(), arguments)
                        .err(),
                })
            }
            Kind::Method(Some(variable)) if assigned.contains(variable) => None,
            Kind::Method(_) => Some(format!(
                "unknown method `{name}`: variables have no methods; a filter may do it, as in `| {name}`"
            )),
        }
    }

    /// Tries the name with small values: where any of them gets as far as the count of arguments, the count is wrong
    /// for all. Errors about the values themselves say nothing of what a call will bring.
    fn probe(&self, kind: &str, call: impl Fn(&[Value]) -> Option<Error>) -> Option<String> {
        let name = &*self.name;
        let unknown = [
            ErrorKind::UnknownFilter,
            ErrorKind::UnknownTest,
            ErrorKind::UnknownFunction,
        ];
        // Without arguments nothing gets as far as to look up a further name.
        if call(&[]).is_some_and(|error| unknown.contains(&error.kind())) {
            return Some(format!("unknown {kind} `{name}`"));
        }
        let samples = || [Value::from(""), Value::from(1), Value::from(vec![0; 0])];
        for first in samples() {
            for others in samples() {
                let mut arguments = vec![others; self.arguments?];
                if let Some(argument) = arguments.first_mut() {
                    *argument = first.clone();
                }
                match call(&arguments).map(|error| error.kind()) {
                    Some(ErrorKind::MissingArgument) => {
                        return Some(format!("{kind} `{name}` needs more arguments"));
                    }
                    Some(ErrorKind::TooManyArguments) => {
                        return Some(format!("{kind} `{name}` takes fewer arguments"));
                    }
                    _ => {}
                }
            }
        }
        None
    }
}

impl<'a> Names<'a> {
    fn used(&mut self, kind: Kind<'a>, name: &'a str, at: usize, args: &[CallArg<'a>]) {
        let before = usize::from(matches!(kind, Kind::Filter | Kind::Test));
        let is_plain = args.iter().all(|arg| matches!(arg, CallArg::Pos(_)));
        self.uses.push(Use {
            kind,
            name: name.into(),
            at,
            arguments: is_plain.then_some(before + args.len()),
        });
        let named = match (kind, name) {
            (Kind::Filter, "map") => args.first().map(|arg| (Kind::Filter, arg)),
            (Kind::Filter, "select" | "reject") => args.first().map(|arg| (Kind::Test, arg)),
            (Kind::Filter, "selectattr" | "rejectattr") => args.get(1).map(|arg| (Kind::Test, arg)),
            _ => None,
        };
        if let Some((kind, CallArg::Pos(Expr::Const(constant)))) = named
            && let Some(name) = constant.value.as_str()
        {
            self.uses.push(Use {
                kind,
                name: name.to_owned().into(),
                at: start(constant.span()),
                arguments: None,
            });
        }
        self.arguments(args);
    }

    fn arguments(&mut self, args: &[CallArg<'a>]) {
        for arg in args {
            match arg {
                CallArg::Pos(expr)
                | CallArg::Kwarg(_, expr)
                | CallArg::PosSplat(expr)
                | CallArg::KwargSplat(expr) => self.expression(expr),
            }
        }
    }

    fn statements(&mut self, statements: &[Stmt<'a>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => {
                self.assigned.insert("loop");
                self.assign(&each.target);
                self.expression(&each.iter);
                self.optional(each.filter_expr.as_ref());
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.assign(target);
                    self.expression(value);
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => {
                self.assign(&set.target);
                self.expression(&set.expr);
            }
            Stmt::SetBlock(set) => {
                self.assign(&set.target);
                self.optional(set.filter.as_ref());
                self.statements(&set.body);
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled);
                self.statements(&block.body);
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Macro(declared) => self.declared(declared),
            Stmt::CallBlock(block) => {
                self.call(&block.call, block.call.span());
                self.declared(&block.macro_decl);
            }
            Stmt::Do(statement) => self.call(&statement.call, statement.call.span()),
        }
    }

    fn declared(&mut self, declared: &Macro<'a>) {
        self.assigned.extend([declared.name, "caller"]);
        for target in &declared.args {
            self.assign(target);
        }
        for default in &declared.defaults {
            self.expression(default);
        }
        self.statements(&declared.body);
    }

    fn assign(&mut self, target: &Expr<'a>) {
        match target {
            Expr::Var(variable) => {
                self.assigned.insert(variable.id);
            }
            Expr::List(list) => list.items.iter().for_each(|item| self.assign(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.assign(item)),
            // A namespace's attribute: the namespace itself was assigned before.
            _ => {}
        }
    }

    fn optional(&mut self, expression: Option<&Expr<'a>>) {
        if let Some(expression) = expression {
            self.expression(expression);
        }
    }

    fn expressions<'b>(&mut self, expressions: impl IntoIterator<Item = &'b Expr<'a>>)
    where
        'a: 'b,
    {
        for expression in expressions {
            self.expression(expression);
        }
    }

    fn expression(&mut self, expression: &Expr<'a>) {
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                self.expressions(
                    [&slice.start, &slice.stop, &slice.step]
                        .into_iter()
                        .flatten(),
                );
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => self.expressions([&binary.left, &binary.right]),
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                self.expressions(compare.ops.iter().map(|operand| &operand.expr));
            }
            Expr::IfExpr(choice) => {
                self.expressions([&choice.test_expr, &choice.true_expr]);
                self.optional(choice.false_expr.as_ref());
            }
            Expr::Filter(filter) => {
                self.optional(filter.expr.as_ref());
                self.used(
                    Kind::Filter,
                    filter.name,
                    start(filter.span()),
                    &filter.args,
                );
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.used(Kind::Test, test.name, start(test.span()), &test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => self.expressions([&item.expr, &item.subscript_expr]),
            Expr::Call(call) => self.call(call, call.span()),
            Expr::List(list) => self.expressions(&list.items),
            Expr::Tuple(tuple) => self.expressions(&tuple.items),
            Expr::Map(map) => {
                self.expressions(&map.keys);
                self.expressions(&map.values);
            }
        }
    }

    fn call(&mut self, call: &Call<'a>, span: Span) {
        match &call.expr {
            Expr::Var(function) => {
                self.used(Kind::Function, function.id, start(span), &call.args);
            }
            Expr::GetAttr(method) => {
                self.expression(&method.expr);
                match root(&method.expr) {
                    Some(root) => {
                        let kind = Kind::Method(root);
                        self.used(kind, method.name, start(span), &call.args);
                    }
                    None => self.arguments(&call.args),
                }
            }
            other => {
                self.expression(other);
                self.arguments(&call.args);
            }
        }
    }
}

/// What a chain of members begins with: a variable, or a constant, which is `Some(None)`.
fn root<'a>(expression: &Expr<'a>) -> Option<Option<&'a str>> {
    match expression {
        Expr::Var(variable) => Some(Some(variable.id)),
        Expr::Const(_) => Some(None),
        Expr::GetAttr(attribute) => root(&attribute.expr),
        Expr::GetItem(item) => root(&item.expr),
        _ => None,
    }
}

fn start(span: Span) -> usize {
    span.start_offset as usize
}
