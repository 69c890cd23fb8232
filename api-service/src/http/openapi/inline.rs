//! Types that stand in the OpenAPI document where they are used, without a name of their own: references to named
//! scalars trip client generators.

/// Makes `$name` a type of poem-openapi's with an inline schema.
macro_rules! inline_type {
    ($name:ident, $required:expr, $schema:expr) => {
        impl poem_openapi::types::Type for $name {
            const IS_REQUIRED: bool = $required;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(self.as_raw_value().into_iter())
            }

            // A response object leaves out what is not there; `null` says so only of fields that may be left out.
            fn is_none(&self) -> bool {
                !$required && self.is_null()
            }
        }
    };
}

pub(crate) use inline_type;
