//! What the derived schemas need before an API server gets them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::labels;

/// Takes `nullable` out (a field is there or it is not; null is refused), lets descriptions flow (their lines end where
/// the source's do, and `kubectl explain` breaks them itself), and names the product it belongs to.
pub(super) fn tidy(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            tidy_schema(schema);
        }
    }
    crd.metadata
        .labels
        .get_or_insert_default()
        .insert("app.kubernetes.io/name".to_owned(), labels::STRONGROOM.to_owned());
    crd
}

fn tidy_schema(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.description = schema.description.as_ref().map(|text| text.replace('\n', " "));
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        tidy_schema(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        tidy_schema(items);
    }
}
