//! How the table of routes is put together.

use axum::routing::{MethodFilter, MethodRouter, on};
use flywheel_core::key::Permission;
use http::Method;

use crate::context::Context;
use crate::openapi::{Documented, Operation};

/// One route of the server.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What the caller must be allowed to do; none for what anyone may ask.
    pub permission: Option<Permission>,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What it is listed under.
    pub group: &'static str,
    /// The handler's name.
    pub name: &'static str,
    /// Describes the handler's arguments and answers.
    pub(crate) describe: fn(&mut Operation<'_>),
    pub(super) handler: MethodRouter<Context>,
}

/// Collects routes.
#[derive(Default)]
pub(super) struct Table {
    pub(super) routes: Vec<Route>,
    /// What the routes that follow are listed under.
    pub(super) group: &'static str,
}

/// What a route demands of its caller, if anything.
pub(super) struct Needs(Option<Permission>);

/// Marks a route that needs no key.
pub(super) struct Anyone;

impl From<Permission> for Needs {
    fn from(permission: Permission) -> Self {
        Self(Some(permission))
    }
}

impl From<Anyone> for Needs {
    fn from(_: Anyone) -> Self {
        Self(None)
    }
}

impl Table {
    fn add<T: 'static, H: Documented<T>>(
        &mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        needs: Needs,
        summary: &'static str,
        handler: H,
    ) {
        let path_of_handler = std::any::type_name::<H>();
        self.routes.push(Route {
            method,
            path,
            permission: needs.0,
            summary,
            group: self.group,
            name: path_of_handler
                .rsplit("::")
                .next()
                .unwrap_or(path_of_handler),
            describe: H::describe,
            handler: on(filter, handler),
        });
    }

    pub(super) fn get<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: impl Documented<T>,
    ) {
        self.add(
            Method::GET,
            MethodFilter::GET,
            path,
            needs.into(),
            summary,
            handler,
        );
    }

    pub(super) fn post<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: impl Documented<T>,
    ) {
        self.add(
            Method::POST,
            MethodFilter::POST,
            path,
            needs.into(),
            summary,
            handler,
        );
    }

    pub(super) fn put<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: impl Documented<T>,
    ) {
        self.add(
            Method::PUT,
            MethodFilter::PUT,
            path,
            needs.into(),
            summary,
            handler,
        );
    }

    pub(super) fn patch<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: impl Documented<T>,
    ) {
        self.add(
            Method::PATCH,
            MethodFilter::PATCH,
            path,
            needs.into(),
            summary,
            handler,
        );
    }

    pub(super) fn delete<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: impl Documented<T>,
    ) {
        self.add(
            Method::DELETE,
            MethodFilter::DELETE,
            path,
            needs.into(),
            summary,
            handler,
        );
    }
}
